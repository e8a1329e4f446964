package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
)

// report prints one line for each row and returns how many rows miss their bound. A figure that a round lacks is an
// error: a promise that is not measured is not kept.
func report(w io.Writer, rows []row, rounds []figures) (missed int, err error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROMISE\tMEASURED\tBOUND\tVERDICT\tFIGURES")
	for _, r := range rows {
		value, shown, err := judge(r, rounds)
		if err != nil {
			return missed, fmt.Errorf("%s: %w", r.name, err)
		}
		verdict := "ok"
		switch {
		case r.atMost == 0 && r.atLeast == 0:
			verdict = "-"
		case !r.kept(value):
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.name, number(value), bound(r), verdict, shown)
	}
	return missed, table.Flush()
}

// judge returns the median of r over the rounds, and the medians it comes from, for people.
func judge(r row, rounds []figures) (value float64, shown string, err error) {
	var ofs, overs, values []float64
	for i, round := range rounds {
		of, err := round.value(r, r.of)
		if err != nil {
			return 0, "", fmt.Errorf("round %d: %w", i+1, err)
		}
		ofs = append(ofs, of)
		if r.over == "" {
			values = append(values, of)
			continue
		}
		over, err := round.value(r, r.over)
		if err != nil {
			return 0, "", fmt.Errorf("round %d: %w", i+1, err)
		}
		if over == 0 {
			return 0, "", fmt.Errorf("round %d: %s is 0 %s", i+1, r.over, r.metric())
		}
		overs = append(overs, over)
		values = append(values, of/over)
	}
	shown = number(median(ofs)) + " " + r.metric()
	if r.over != "" {
		shown = fmt.Sprintf("%s over %s %s", number(median(ofs)), number(median(overs)), r.metric())
	}
	return median(values), shown, nil
}

// value looks up the figure of one benchmark that r compares.
func (f figures) value(r row, benchmark string) (float64, error) {
	units, ok := f[r.pkg][benchmark]
	if !ok {
		return 0, fmt.Errorf("%s did not run in %s", benchmark, r.pkg)
	}
	value, ok := units[r.metric()]
	if !ok {
		return 0, fmt.Errorf("%s in %s reports no %s", benchmark, r.pkg, r.metric())
	}
	return value, nil
}

// median returns the middle of values, which must not be empty.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// bound is r's bound for people.
func bound(r row) string {
	switch {
	case r.atMost != 0:
		return "≤ " + number(r.atMost)
	case r.atLeast != 0:
		return "≥ " + number(r.atLeast)
	}
	return "-"
}

// number prints as many digits as are worth reading.
func number(value float64) string {
	switch {
	case value >= 100:
		return strconv.FormatFloat(value, 'f', 0, 64)
	case value >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	default:
		return strconv.FormatFloat(value, 'f', 2, 64)
	}
}
