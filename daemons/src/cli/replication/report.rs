//! What people and programs are told.

use serde_json::{Value, json};

use crate::setup::{Check, Item, Outcome, Plan, SetupError, side_name};

/// Lines as things happen, or one JSON document at the end.
pub(super) struct Report {
    is_json: bool,
    is_dry: bool,
    plan: Option<Plan>,
    done: Vec<Item>,
    checks: Option<Vec<Check>>,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, is_dry: false, plan: None, done: Vec::new(), checks: None }
    }

    fn line(&self, state: &str, side: &str, what: &str) {
        if !self.is_json {
            println!("{state:<8} {side:<6} {what}");
        }
    }

    pub(super) fn plan(&mut self, plan: &Plan, is_dry: bool) {
        for item in &plan.items {
            let state = if item.is_there { "is there" } else { "to do" };
            self.line(state, side_name(item.step.side()), &item.what);
        }
        self.is_dry = is_dry;
        let to_do = plan.to_do().count();
        if !self.is_json && to_do == 0 {
            println!("nothing to do");
        } else if !self.is_json && is_dry {
            println!("{to_do} to do; nothing was changed");
        }
        self.plan = Some(plan.clone());
    }

    pub(super) fn done(&mut self, item: &Item) {
        self.line("done", side_name(item.step.side()), &item.what);
        self.done.push(item.clone());
    }

    pub(super) fn checks(&mut self, checks: Vec<Check>) {
        for check in &checks {
            let side = side_name(check.side);
            match &check.outcome {
                Outcome::Ok => self.line("ok", side, &check.what),
                Outcome::NotRun(why) => self.line("not run", side, &format!("{}: {why}", check.what)),
                Outcome::Failed { why, fix } => {
                    self.line("FAILED", side, &format!("{}: {why}; to do: {fix}", check.what));
                }
            }
        }
        self.checks = Some(checks);
    }

    /// For the end of a failure's line.
    pub(super) fn what_was_done(&self) -> String {
        let Some(plan) = &self.plan else { return String::new() };
        let done: Vec<String> =
            self.done.iter().map(|item| format!("{} {}", side_name(item.step.side()), item.what)).collect();
        let done = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
        let left = plan.to_do().count() - self.done.len();
        format!("; done so far: {done}; {left} left: the same command goes on from here")
    }

    /// The last that is told on standard output.
    pub(super) fn end(&self, error: Option<&SetupError>) {
        if self.is_json {
            println!("{}", self.document(error));
            return;
        }
        let failed = self.checks.as_ref().map(|checks| {
            checks.iter().filter(|check| matches!(check.outcome, Outcome::Failed { .. })).count()
        });
        match failed {
            Some(0) => println!("all is well"),
            Some(failed) => println!("{failed} failed"),
            None => {}
        }
    }

    fn document(&self, error: Option<&SetupError>) -> Value {
        let mut document = json!({});
        if let Some(plan) = &self.plan {
            let state = |item: &Item| match (item.is_there, self.done.contains(item)) {
                (true, _) => "is there",
                (false, true) => "done",
                (false, false) => "to do",
            };
            let steps = plan.items.iter().map(
                |item| json!({"side": side_name(item.step.side()), "what": item.what, "state": state(item)}),
            );
            document["steps"] = steps.collect();
            document["changed"] = json!(self.done.len());
            document["dryRun"] = json!(self.is_dry);
        }
        if let Some(checks) = &self.checks {
            document["checks"] = checks.iter().map(check_document).collect();
        }
        if let Some(error) = error {
            document["error"] = json!({
                "side": side_name(error.side),
                "step": error.doing,
                "message": error.trouble.to_string(),
                "fix": error.advice(),
            });
        }
        document
    }
}

fn check_document(check: &Check) -> Value {
    let mut document = json!({"side": side_name(check.side), "what": check.what});
    match &check.outcome {
        Outcome::Ok => document["state"] = json!("ok"),
        Outcome::NotRun(why) => {
            document["state"] = json!("not run");
            document["why"] = json!(why);
        }
        Outcome::Failed { why, fix } => {
            document["state"] = json!("failed");
            document["why"] = json!(why);
            document["fix"] = json!(fix);
        }
    }
    document
}
