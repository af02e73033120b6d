//! What a caller sees of one transaction: snapshots to read, and an overlay to write that vanishes if it is refused.

use super::range::KeyRange;
use super::{StoreError, record};
use redb::{ReadableTable, TableDefinition, TableError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The name of a table. Its users define it as a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table(pub &'static str);

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Rows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;
type RowsMut<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;
type Changes = BTreeMap<Table, TableChanges>;
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'a;

/// What one write does to a table: ranges are emptied first, then rows are written and removed.
#[derive(Default)]
pub(super) struct TableChanges {
    emptied: Vec<KeyRange>,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl TableChanges {
    fn hides(&self, key: &[u8]) -> bool {
        self.emptied.iter().any(|range| range.contains(key))
    }
}

/// Reading, the same in a snapshot and inside a write.
pub trait Read {
    /// The value at `key`, its checksum verified.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` rows of `range`, in ascending order.
    fn range(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// The last row of `range`.
    fn last(&self, table: Table, range: &KeyRange) -> Result<Option<Row>, StoreError>;
}

/// What lies under a transaction.
pub(super) trait Base {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    fn walk(
        &self,
        table: Table,
        range: &KeyRange,
        backwards: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;
}

fn database(file: &Path) -> impl Fn(redb::StorageError) -> StoreError + '_ {
    |error| StoreError::database(file, error.into())
}

fn open_record(file: &Path, table: Table, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    record::unseal(table.0, key, sealed).map(<[u8]>::to_vec).ok_or_else(|| StoreError::Corrupt {
        file: file.into(),
        table: table.0.into(),
        key: key.escape_ascii().to_string(),
    })
}

fn get_from<T>(file: &Path, table: Table, rows: &T, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>
where
    T: ReadableTable<&'static [u8], &'static [u8]>,
{
    rows.get(key)
        .map_err(database(file))?
        .map(|sealed| open_record(file, table, key, sealed.value()))
        .transpose()
}

fn walk_over<T>(
    file: &Path,
    table: Table,
    rows: &T,
    range: &KeyRange,
    backwards: bool,
    visit: &mut Visit<'_>,
) -> Result<(), StoreError>
where
    T: ReadableTable<&'static [u8], &'static [u8]>,
{
    if range.is_empty() {
        return Ok(());
    }
    let mut found = rows.range::<&[u8]>(range.bounds()).map_err(database(file))?;
    while let Some(row) = if backwards { found.next_back() } else { found.next() } {
        let (key, sealed) = row.map_err(database(file))?;
        let value = open_record(file, table, key.value(), sealed.value())?;
        if visit(key.value(), &value)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// A snapshot: what was committed when it was taken.
pub struct ReadTxn<'a> {
    pub(super) file: &'a Path,
    pub(super) txn: redb::ReadTransaction,
}

impl<'a> ReadTxn<'a> {
    pub(super) fn new(file: &'a Path, txn: redb::ReadTransaction) -> Self {
        Self { file, txn }
    }

    /// Shows the rows of `range` in ascending order, without holding them all in memory.
    ///
    /// # Errors
    /// The store's: at the first record that does not match its checksum.
    pub fn visit(
        &self,
        table: Table,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        self.walk(table, range, false, &mut |key, value| {
            visit(key, value);
            Ok(ControlFlow::Continue(()))
        })
    }

    fn open(&self, table: Table) -> Result<Option<Rows>, StoreError> {
        match self.txn.open_table(Definition::new(table.0)) {
            Ok(rows) => Ok(Some(rows)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(StoreError::database(self.file, error.into())),
        }
    }
}

impl Base for ReadTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.open(table)? {
            Some(rows) => get_from(self.file, table, &rows, key),
            None => Ok(None),
        }
    }

    fn walk(
        &self,
        table: Table,
        range: &KeyRange,
        backwards: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        match self.open(table)? {
            Some(rows) => walk_over(self.file, table, &rows, range, backwards, visit),
            None => Ok(()),
        }
    }
}

impl Read for ReadTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Base::get(self, table, key)
    }

    fn range(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        if limit > 0 {
            self.walk(table, range, false, &mut |key, value| {
                found.push((key.to_vec(), value.to_vec()));
                Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        Ok(found)
    }

    fn last(&self, table: Table, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        let mut found = None;
        self.walk(table, range, true, &mut |key, value| {
            found = Some((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

/// The tables of one group commit, opened at first use.
pub(super) struct GroupTables<'txn> {
    file: &'txn Path,
    txn: &'txn redb::WriteTransaction,
    open: RefCell<BTreeMap<Table, RowsMut<'txn>>>,
}

impl<'txn> GroupTables<'txn> {
    pub(super) fn new(file: &'txn Path, txn: &'txn redb::WriteTransaction) -> Self {
        Self { file, txn, open: RefCell::new(BTreeMap::new()) }
    }

    fn with<T>(
        &self,
        table: Table,
        action: impl FnOnce(&mut RowsMut<'txn>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut open = self.open.borrow_mut();
        if let std::collections::btree_map::Entry::Vacant(vacant) = open.entry(table) {
            let rows = self
                .txn
                .open_table(Definition::new(table.0))
                .map_err(|error| StoreError::database(self.file, error.into()))?;
            vacant.insert(rows);
        }
        action(open.get_mut(&table).expect("the table was just opened"))
    }

    /// Puts the changes of one accepted closure into the transaction.
    pub(super) fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        for (table, changes) in changes {
            self.with(table, |rows| {
                for range in &changes.emptied {
                    rows.retain_in::<&[u8], _>(range.bounds(), |_, _| false).map_err(database(self.file))?;
                }
                changes.rows.into_iter().try_for_each(|(key, change)| {
                    match change {
                        Some(value) => rows
                            .insert_reserve(key.as_slice(), record::sealed_len(&value))
                            .map(|mut place| record::seal(table.0, &key, &value, place.as_mut())),
                        None => rows.remove(key.as_slice()).map(drop),
                    }
                    .map_err(database(self.file))
                })
            })?;
        }
        Ok(())
    }
}

impl GroupTables<'_> {
    /// Damaged pages make the database panic rather than answer. What is caught here is no fault of the closure that reads.
    fn reading<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
            Err(StoreError::Damaged { file: self.file.into(), message: "reading it panicked".into() })
        })
    }
}

impl Base for GroupTables<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reading(|| self.with(table, |rows| get_from(self.file, table, rows, key)))
    }

    fn walk(
        &self,
        table: Table,
        range: &KeyRange,
        backwards: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.reading(|| self.with(table, |rows| walk_over(self.file, table, rows, range, backwards, visit)))
    }
}

/// One caller's write: it sees its own changes over everything written before it, and nothing of it stays if the
/// closure refuses.
pub struct WriteTxn<'a> {
    base: &'a dyn Base,
    changes: Changes,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(base: &'a dyn Base) -> Self {
        Self { base, changes: Changes::new() }
    }

    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Writes `value` at `key`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.entry(table).or_default().rows.insert(key.into(), Some(value.into()));
    }

    /// Removes what is at `key`, if anything.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.entry(table).or_default().rows.insert(key.into(), None);
    }

    /// Removes every row of `range` without reading its value: pages go as a whole, which costs little beside removing row
    /// by row. What this write puts there later stays.
    pub fn delete_range(&mut self, table: Table, range: KeyRange) {
        if range.is_empty() {
            return;
        }
        let changes = self.changes.entry(table).or_default();
        changes.rows.retain(|key, _| !range.contains(key));
        changes.emptied.push(range);
    }

    /// Rows of the range with this write's own changes laid over them.
    fn merged(
        &self,
        table: Table,
        range: &KeyRange,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let mut found: Vec<Row> = Vec::new();
        if limit == 0 || range.is_empty() {
            return Ok(found);
        }
        let is_hidden = |key: &[u8]| self.changes.get(&table).is_some_and(|changes| changes.hides(key));
        let own = self.own(table, range, backwards);
        let mut own = own.iter().peekable();
        let before = |a: &[u8], b: &[u8]| if backwards { a > b } else { a < b };
        self.base.walk(table, range, backwards, &mut |key, value| {
            while let Some((own_key, own_value)) = own.next_if(|(own_key, _)| before(own_key, key)) {
                if let Some(value) = own_value {
                    found.push((own_key.to_vec(), value.to_vec()));
                }
            }
            match own.next_if(|(own_key, _)| *own_key == key) {
                Some((_, Some(value))) => found.push((key.to_vec(), value.to_vec())),
                Some((_, None)) => {}
                None if is_hidden(key) => {}
                None => found.push((key.to_vec(), value.to_vec())),
            }
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        for (key, value) in own {
            if let Some(value) = value {
                found.push((key.to_vec(), value.to_vec()));
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn own(&self, table: Table, range: &KeyRange, backwards: bool) -> Vec<(&[u8], Option<&[u8]>)> {
        let Some(changes) = self.changes.get(&table) else { return Vec::new() };
        let own = changes.rows.range::<[u8], _>(range.bounds());
        let mut own: Vec<_> = own.map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        if backwards {
            own.reverse();
        }
        own
    }
}

impl Read for WriteTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(changes) = self.changes.get(&table) else { return self.base.get(table, key) };
        match changes.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None if changes.hides(key) => Ok(None),
            None => self.base.get(table, key),
        }
    }

    fn range(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.merged(table, range, false, limit)
    }

    fn last(&self, table: Table, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        Ok(self.merged(table, range, true, 1)?.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A base that holds its rows in memory.
    struct Rows(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Base for Rows {
        fn get(&self, _: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.0.get(key).cloned())
        }

        fn walk(
            &self,
            _: Table,
            range: &KeyRange,
            back: bool,
            visit: &mut Visit<'_>,
        ) -> Result<(), StoreError> {
            let mut rows: Vec<_> = self.0.range::<[u8], _>(range.bounds()).collect();
            if back {
                rows.reverse();
            }
            for (key, value) in rows {
                if visit(key, value)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    const T: Table = Table("t");

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 254, 255]), 0..3)
    }

    /// What a write does.
    #[derive(Clone, Debug)]
    enum Doing {
        Put(Vec<u8>, Vec<u8>),
        Delete(Vec<u8>),
        Empty(Vec<u8>, Vec<u8>),
    }

    fn doing() -> impl Strategy<Value = Doing> {
        prop_oneof![
            3 => (keys(), keys()).prop_map(|(key, value)| Doing::Put(key, value)),
            2 => keys().prop_map(Doing::Delete),
            1 => (keys(), keys()).prop_map(|(from, to)| Doing::Empty(from, to)),
        ]
    }

    proptest! {
        #[test]
        fn the_overlay_reads_like_the_rows_it_will_become(
            base in prop::collection::btree_map(keys(), keys(), 0..12),
            changes in prop::collection::vec(doing(), 0..12),
            prefix in keys(),
            limit in 0usize..6,
        ) {
            let rows = Rows(base.clone());
            let mut txn = WriteTxn::new(&rows);
            let mut model = base;
            txn.put(Table("s"), b"before".to_vec(), b"x".to_vec());
            txn.put(Table("u"), b"after".to_vec(), b"x".to_vec());
            for change in changes {
                match change {
                    Doing::Put(key, value) => {
                        txn.put(T, key.clone(), value.clone());
                        model.insert(key, value);
                    }
                    Doing::Delete(key) => {
                        txn.delete(T, key.clone());
                        model.remove(&key);
                    }
                    Doing::Empty(from, to) => {
                        txn.delete_range(T, KeyRange::between(&from, &to));
                        model.retain(|key, _| *key < from || *key >= to);
                    }
                }
            }
            let expected: Vec<Row> = model.iter().filter(|(key, _)| key.starts_with(&prefix))
                .map(|(key, value)| (key.clone(), value.clone())).collect();
            let range = KeyRange::prefix(&prefix);
            prop_assert_eq!(txn.last(T, &range).unwrap(), expected.last().cloned());
            prop_assert_eq!(txn.range(T, &range, limit).unwrap(), expected.iter().take(limit).cloned().collect::<Vec<_>>());
            for key in rows.0.keys().chain(model.keys()) {
                prop_assert_eq!(txn.get(T, key).unwrap(), model.get(key).cloned());
            }
        }
    }
}
