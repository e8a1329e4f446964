package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// statement is one SQL statement and the name under which it is prepared.
type statement struct{ name, text string }

// statements are all that the store ever sends, besides begin, commit and rollback.
type statements struct {
	get, getMany          statement
	scan, scanTo          statement // without and with an end
	scanKeys, scanKeysTo  statement // the same without values
	insert, update, write statement // a Put with If 0, If a revision, If Any
	remove, drop          statement // a Delete with If a revision, If Any
	look                  statement // a Check alone
	lock                  statement // a Check among other operations
}

// statementsIn returns the statements on the tables of a schema.
func statementsIn(schema string) statements {
	table := pgx.Identifier{schema, "polycred_records"}.Sanitize()
	in := func(name, text string) statement {
		return statement{"polycred_" + name, strings.ReplaceAll(text, "{records}", table)}
	}
	return statements{
		get:     in("get", "select rev, v from {records} where k = $1"),
		getMany: in("get_many", "select k, rev, v from {records} where k = any($1)"),

		scan:       in("scan", "select k, rev, v from {records} where k >= $1 order by k limit $2"),
		scanTo:     in("scan_to", "select k, rev, v from {records} where k >= $1 and k < $3 order by k limit $2"),
		scanKeys:   in("scan_keys", "select k, rev from {records} where k >= $1 order by k limit $2"),
		scanKeysTo: in("scan_keys_to", "select k, rev from {records} where k >= $1 and k < $3 order by k limit $2"),

		insert: in("insert", "insert into {records} (k, v, rev) values ($1, $2, $3) on conflict (k) do nothing"),
		update: in("update", "update {records} set v = $2, rev = $3 where k = $1 and rev = $4"),
		write: in("write", "insert into {records} (k, v, rev) values ($1, $2, $3) "+
			"on conflict (k) do update set v = excluded.v, rev = excluded.rev"),
		remove: in("remove", "delete from {records} where k = $1 and rev = $2"),
		drop:   in("drop", "delete from {records} where k = $1"),
		look:   in("look", "select 1 from {records} where k = $1 and rev = $2"),
		// An update of other columns than the key does not conflict with "for key share", which would let a checked
		// record change before the batch commits. "For share" keeps it still, and sharers do not wait for each other. The
		// price: they pass a writer that waits, so a record that 16 clients check without a pause takes a second to change.
		lock: in("lock", "select 1 from {records} where k = $1 and rev = $2 for share"),
	}
}
