package telemetry

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/internal/telemetry/telemetrytest"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/memory"
	"go.opentelemetry.io/otel/attribute"
)

var coded = regexp.MustCompile("`([^`]+)`")

// tables returns the rows of a page's tables by the first word in the head of each table, then by the code in a row's
// first cell: the other cells.
func tables(t *testing.T) map[string]map[string][]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "telemetry.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string][]string{}
	head := ""
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "|") {
			head = ""
			continue
		}
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if head == "" {
			head = cells[0]
			all[head] = map[string][]string{}
		} else if name := coded.FindStringSubmatch(cells[0]); name != nil {
			if all[head][name[1]] != nil {
				t.Errorf("docs/telemetry.md has two rows for `%s`", name[1])
			}
			all[head][name[1]] = cells[1:]
		}
	}
	return all
}

// words returns what a cell has in code quotes.
func words(cell string) []string {
	var all []string
	for _, m := range coded.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// told has every instrument measure with every word there is for each label, and returns what came of it.
func told(t *testing.T) *telemetrytest.Recorder {
	t.Helper()
	r := &telemetrytest.Recorder{}
	i, ctx := New(r, r), t.Context()
	for use := range uses {
		i.Issued(ctx, "mail", Use(use))
	}
	for _, class := range classes {
		for _, trigger := range triggers {
			i.Refreshed(ctx, "mail", trigger, class, time.Second)
		}
	}
	for _, wait := range waits {
		i.LeaseWaited(ctx, wait, time.Second)
	}
	for _, result := range revocations {
		i.Revoked(ctx, "mail", result)
	}
	i.Connected(ctx, "mail", ResultOK)
	i.Numbered(ctx, 1)
	i.Lagged(ctx, time.Second)
	i.Served(ctx, "/healthz", "GET", 200, time.Second)
	s := i.Store(memory.New()).(*store)
	defer func() { _ = s.Close() }()
	for op := range operations {
		for end := range outcomes {
			s.duration.Record(ctx, 1, storeOptions[op][end]...)
		}
	}
	_, _ = s.Scan(ctx, storage.Range{})
	i.Unsaved(func() int64 { return 1 })
	if err := r.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range spans {
		_, span := i.Start(ctx, name, "mail", "id")
		span.Trigger(TriggerAhead)
		span.Method("GET")
		span.Answered(404)
		span.Served("/healthz", 500)
		span.End()
	}
	return r
}

// unlisted are labels whose words stand on other pages.
var unlisted = map[attribute.Key]bool{keyIntegration: true, keyRoute: true, keyMethod: true, keyStatus: true}

// TestDocumented holds docs/telemetry.md to this package, in both directions.
func TestDocumented(t *testing.T) {
	t.Parallel()
	page, r := tables(t), told(t)

	type metric struct{ Kind, Unit, Labels string }
	want, got := map[string]metric{}, map[string]metric{}
	for _, i := range r.Instruments() {
		labels := map[string]bool{}
		for _, m := range r.Measurements(i.Name) {
			for _, label := range m.Labels.ToSlice() {
				labels[string(label.Key)] = true
			}
		}
		want[i.Name] = metric{i.Kind, i.Unit, strings.Join(slices.Sorted(maps.Keys(labels)), " ")}
		if len(r.Measurements(i.Name)) == 0 {
			t.Errorf("nothing was measured of %s: the test is blind", i.Name)
		}
		if !strings.HasPrefix(i.Name, "polycred.") || i.Description == "" {
			t.Errorf("%+v: want a name under polycred and a description", i)
		}
	}
	for name, cells := range page["metric"] {
		labels := words(cells[2])
		slices.Sort(labels)
		got[name] = metric{cells[0], strings.Trim(cells[1], "`"), strings.Join(labels, " ")}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("the metrics of docs/telemetry.md (-code +page):\n%s", diff)
	}
	for name := range page["metric"] {
		if page["alert on"][name] == nil {
			t.Errorf("docs/telemetry.md has no example of an alert on `%s`", name)
		}
	}

	wantWords, gotWords := map[string][]string{}, map[string][]string{}
	for _, m := range r.Measurements("") {
		for _, label := range m.Labels.ToSlice() {
			key := string(label.Key)
			wantWords[key] = append(wantWords[key], label.Value.AsString())
		}
	}
	for key := range unlisted {
		delete(wantWords, string(key))
	}
	for key, all := range wantWords {
		slices.Sort(all)
		wantWords[key] = slices.Compact(all)
	}
	for name, cells := range page["label"] {
		if all := words(cells[0]); len(all) > 0 && !unlisted[attribute.Key(name)] {
			slices.Sort(all)
			gotWords[name] = all
		}
	}
	if diff := cmp.Diff(wantWords, gotWords); diff != "" {
		t.Errorf("the words for labels of docs/telemetry.md (-code +page):\n%s", diff)
	}
	for key := range unlisted {
		if page["label"][string(key)] == nil {
			t.Errorf("docs/telemetry.md has no row for the label `%s`", key)
		}
	}
}

// TestSpansDocumented holds the spans and their attributes to docs/telemetry.md, in both directions.
func TestSpansDocumented(t *testing.T) {
	t.Parallel()
	page, r := tables(t), told(t)
	kinds, attributes := map[string]string{}, map[string]bool{}
	for _, s := range r.Spans() {
		kinds[s.Name] = s.Kind.String()
		for key := range s.Attributes {
			attributes[key] = true
		}
	}
	documented := map[string]string{}
	for name, cells := range page["span"] {
		documented[name] = cells[0]
	}
	if diff := cmp.Diff(kinds, documented); diff != "" {
		t.Errorf("the spans of docs/telemetry.md (-code +page):\n%s", diff)
	}
	want, got := slices.Sorted(maps.Keys(attributes)), slices.Sorted(maps.Keys(page["attribute"]))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the attributes of docs/telemetry.md (-code +page):\n%s", diff)
	}
}
