package due

import "context"

// Waiting counts the entries, those that are not due yet included, up to limit. Like Oldest it is for health, and does not
// look before the low-water minute. Errors are those of the store.
func (q *Queue) Waiting(ctx context.Context, limit int) (n int, err error) {
	m := within(q.now())
	held, _, err := q.readMark(ctx)
	if err != nil && !unreadable(err) {
		return 0, q.wrap("count the entries", err)
	}
	low := min(held.believed(m).Low, max(m-trailing, 0))
	for i := range shards {
		for after, more := edge(shardName(i), low), n < limit; more; {
			var rows [][]string
			rows, _, more, err = q.entries.Range(ctx, after, edge(shardName(i), maxMinute+1), min(limit-n, pageSize))
			if err != nil {
				return 0, q.wrap("count the entries", err)
			}
			for _, row := range rows {
				if after = row; n < limit {
					if _, ok := parse(row); ok {
						n++
					}
				}
			}
			more = more && n < limit
		}
	}
	return n, nil
}
