//! Every fault the world can strike with: id, contract class, shape, meaning.

/// Whether the contract of the dependency allows the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Allowed at any time: the engine must hold.
    Contract,
    /// Beyond the contract: only in runs that expect damage to be contained.
    Beyond,
}

/// How a fault strikes, which fixes what its strength means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Drawn for each single request, message or step: strength is its probability in parts per million.
    Single,
    /// Drawn at every tick of the chaos clock: strength is its probability in parts per million per tick.
    Tick,
    /// Drawn once for the whole run; strength is its measure.
    Run,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $shape:ident, $max:literal, $about:literal;)*) => {
        /// A fault of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Fault {
            $(#[doc = $about] $name,)*
        }

        impl Fault {
            /// Every fault, in catalogue order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The id in the catalogue.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// How it strikes.
            pub const fn shape(self) -> Shape {
                match self { $(Self::$name => Shape::$shape,)* }
            }

            /// The greatest strength that a seed draws.
            pub const fn strength_max(self) -> u32 {
                match self { $(Self::$name => $max,)* }
            }

            /// What it does.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }
        }
    };
}

faults! {
    CrashBetweenEffects = "P1", Single, 1_500, "a process dies between two effects of one step";
    CrashBeforeCompletion = "P2", Single, 1_500, "a process dies after an effect was carried out, before it hears of it";
    Pause = "P3", Tick, 12_000, "a process stands still past every lease and goes on";
    SlowNode = "P5", Tick, 10_000, "everything a process sends or receives is slow for a while";
    DrainInterrupted = "P7", Single, 300_000, "a process dies while it gives partitions back";
    AllAtOnce = "P8", Tick, 1_500, "all processes die at once";
    CrashIdle = "P9", Tick, 12_000, "a process dies between two steps";
    WallJump = "T1", Tick, 10_000, "the wall clock of a process jumps by up to a day";
    Drift = "T2", Run, 300, "clocks of processes run at different speeds (parts per million)";
    TimerLate = "T3", Single, 100_000, "a timer fires late";
    TimersEqual = "T4", Run, 1, "latencies come in whole steps, so that many events are due at once";
    RequestLost = "N1", Single, 30_000, "a request never arrives and is never answered";
    RequestDoubled = "N2", Single, 20_000, "a request arrives twice";
    Reordered = "N3", Single, 80_000, "a request is overtaken by later ones";
    DelaySpike = "N4", Single, 20_000, "a request or its answer takes seconds";
    OneWay = "N5", Tick, 8_000, "requests of a process arrive, answers do not";
    Isolated = "N6", Tick, 6_000, "a process reaches nothing and nobody for a while";
    Clogged = "N8", Tick, 8_000, "a process's traffic is held back and then released at once";
    ResetMidBody = "N9", Single, 40_000, "a transfer breaks in the middle of the body";
    SlowDrip = "N10", Single, 15_000, "a transfer takes longer than its deadline and ends anyway";
    ProduceRefused = "K1", Single, 20_000, "the broker refuses a message";
    ProduceReplyLost = "K2", Single, 20_000, "a message is appended, the acknowledgement is lost";
    ProduceDoubled = "K3", Single, 15_000, "a message is appended twice in a row";
    ProduceLost = "K4", Single, 20_000, "a message is lost on the way and reported as unknown";
    LeaderMove = "K5", Tick, 10_000, "a partition takes no messages for a while and refuses with a retryable error";
    FetchStall = "K7", Single, 20_000, "reading a partition stalls for seconds";
    FetchLate = "K8", Single, 30_000, "messages already read reach the machine seconds later, whatever happened meanwhile";
    RebalanceStorm = "K9", Tick, 25_000, "a group rebalances without need";
    SessionLost = "K10", Tick, 10_000, "a member loses its session without notice and joins again";
    NoticeLate = "K11", Single, 100_000, "the notice of a revocation comes after the partitions were given to another member";
    CommitRefused = "K12", Single, 30_000, "the broker refuses a commit for the time being";
    CommitReplyLost = "K13", Single, 30_000, "a commit is recorded, the answer is lost";
    GroupCoordinatorDown = "K15", Tick, 6_000, "commits and joins of a group fail for a while";
    Poison = "K17", Tick, 8_000, "somebody publishes a message that is not one of ours";
    ProducerQueueFull = "K19", Single, 10_000, "the producer's own queue is full";
    PartitionStalled = "K20", Tick, 8_000, "one partition silently delivers nothing for a long while";
    JournalDoubled = "L1", Single, 30_000, "the journal holds an entry twice after a failover";
    JournalCut = "L2", Tick, 3_000, "the journal forgets records that were not read";
    JournalReplaced = "L3", Tick, 1_500, "another journal takes the place of the journal";
    JournalStall = "L4", Tick, 8_000, "the journal tells nothing for a while, then everything";
    JournalAhead = "L5", Run, 1, "clients delete versions that were not replicated yet";
    SourceDeleted = "S1", Single, 2_000, "a version is deleted between two requests of a copy";
    SourceChanged = "S3", Single, 4_000, "metadata changes between two requests of a copy";
    Truncated = "S4", Single, 20_000, "the source's body ends early";
    BitFlip = "S5", Single, 20_000, "a body is damaged on the way and stored";
    Throttled = "S6", Single, 20_000, "503 SlowDown, sometimes with Retry-After";
    SourceUnavailable = "S7", Single, 20_000, "500 from the source";
    SourceSlow = "S8", Single, 20_000, "the source answers late";
    AccessRevoked = "S9", Tick, 6_000, "the source forbids reads for a while";
    StaleRead = "S10", Single, 20_000, "a reader of the source misses the engine's own last status write, if it is no older than a second";
    StatusRace = "S11", Single, 20_000, "a client changes the version right before a status write arrives";
    TargetReplyLost = "D1", Single, 30_000, "the target did it, the answer is lost";
    LateDuplicate = "D2", Single, 20_000, "an old write arrives once more, seconds later";
    ThrottlingBurst = "D3", Tick, 8_000, "the target answers 503 to everything for a while";
    TargetBucketGone = "D5", Tick, 4_000, "the target bucket does not exist for a while";
    TargetUnversioned = "D6", Tick, 4_000, "the target bucket keeps no versions for a while";
    CredentialsExpired = "D7", Tick, 8_000, "the target refuses expired credentials for a while";
    TargetOutage = "D9", Tick, 8_000, "a target site answers nothing for minutes";
    TargetUnavailable = "D10", Single, 20_000, "500 from the target";
    TargetBadDigest = "D12", Single, 15_000, "the target finds that a body does not have the announced digest";
    CoordinationLost = "Z1", Tick, 8_000, "the coordination store answers nothing for a while";
    SessionExpired = "Z2", Tick, 10_000, "the session of the journal's owner expires";
    ExpiryLate = "Z3", Single, 300_000, "the old owner hears late that its session expired";
    PositionReplyLost = "Z5", Single, 60_000, "the position is stored, the answer is lost";
    EphemeralLingers = "Z8", Single, 200_000, "the node of a dead owner stays for a while";
    PositionTouched = "Z7", Single, 10_000, "the position's node changes version under its owner";
    OperatorPause = "A1", Tick, 8_000, "an operator pauses a site and resumes it later";
    OperatorBreaker = "A2", Tick, 4_000, "an operator holds back requests to a site for a while";
    RuleDisabled = "A3", Tick, 4_000, "the replication rule is disabled for a while";
    ManualRetry = "A4", Tick, 20_000, "an operator retries failed versions";
    Backfill = "A5", Tick, 8_000, "a listing queues existing versions again, across the live stream";
    UploadDropped = "D4", Tick, 8_000, "a rule of the target bucket drops an open upload";
}

impl Fault {
    /// Whether the contract of the dependency allows it. Every fault of the present world is allowed.
    pub const fn class(self) -> Class {
        Class::Contract
    }

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_large_and_its_ids_are_distinct() {
        assert!(Fault::ALL.len() >= 45);
        let mut ids: Vec<&str> = Fault::ALL.iter().map(|fault| fault.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Fault::ALL.len());
        for (index, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(fault.index(), index);
        }
    }
}
