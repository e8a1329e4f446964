package input_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

var allInputTypes = []input.Type{
	input.Text, input.TextArea, input.Number, input.Email, input.URL, input.Password, input.Boolean, input.Switch, input.Enum,
	input.DynamicEnum, input.CustomDropdown, input.Combo, input.DynamicCombo, input.FieldMapper, input.Copyable,
	input.Permission, input.File,
}

// wantField checks that err is an Error about a field.
func wantField(t *testing.T, call string, err error, field string) {
	t.Helper()
	var wrong *input.Error
	if !errors.As(err, &wrong) || wrong.Field != field || wrong.Reason == "" || !strings.HasPrefix(wrong.Error(), field+" ") {
		t.Errorf("%s = %v, want an Error about %q", call, err, field)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	one := func(in input.Input) []input.Input { return []input.Input{in} }
	enum := func(values ...string) []input.Input {
		in := input.Input{ID: "a", Type: input.Enum}
		for _, v := range values {
			in.Options = append(in.Options, input.Option{Value: v})
		}
		return one(in)
	}
	many := func(n int) (inputs []input.Input) {
		for i := range n {
			inputs = append(inputs, input.Input{ID: fmt.Sprint(i), Type: input.Text})
		}
		return inputs
	}
	options := func(n, size int) []input.Input {
		var values []string
		for i := range n {
			values = append(values, fmt.Sprintf("%0*d", size, i))
		}
		return enum(values...)
	}
	kib := strings.Repeat("x", 1<<10)
	for _, tt := range []struct {
		name   string
		inputs []input.Input
		field  string // empty: accepted
	}{
		{"none", nil, ""},
		{"one", one(input.Input{ID: "a", Type: input.Text}), ""},
		{"all of text", one(input.Input{ID: "a.b-C_9", Type: input.Text, Title: "Grüße", Tooltip: "a\nb", Placeholder: "…", Required: true, Default: "x"}), ""},
		{"100 inputs", many(100), ""},
		{"101 inputs", many(101), "settings"},

		{"no id", one(input.Input{Type: input.Text}), "settings.0.id"},
		{"id of 64 bytes", one(input.Input{ID: strings.Repeat("a", 64), Type: input.Text}), ""},
		{"id of 65 bytes", one(input.Input{ID: strings.Repeat("a", 65), Type: input.Text}), "settings.0.id"},
		{"id with a blank", one(input.Input{ID: "a b", Type: input.Text}), "settings.0.id"},
		{"id with a slash", one(input.Input{ID: "a/b", Type: input.Text}), "settings.0.id"},
		{"id with an umlaut", one(input.Input{ID: "ä", Type: input.Text}), "settings.0.id"},
		{"id with NUL", one(input.Input{ID: "a\x00", Type: input.Text}), "settings.0.id"},
		{"id twice", []input.Input{{ID: "a", Type: input.Text}, {ID: "b", Type: input.Text}, {ID: "a", Type: input.Number}}, "settings.2.id"},
		{"ids that differ in case", []input.Input{{ID: "a", Type: input.Text}, {ID: "A", Type: input.Text}}, ""},

		{"no type", one(input.Input{ID: "a"}), "settings.0.type"},
		{"unknown type", []input.Input{{ID: "a", Type: input.Text}, {ID: "b", Type: "TEXT"}}, "settings.1.type"},

		{"title of 1 KiB", one(input.Input{ID: "a", Type: input.Text, Title: kib}), ""},
		{"longer title", one(input.Input{ID: "a", Type: input.Text, Title: kib + "x"}), "settings.0.title"},
		{"title not UTF-8", one(input.Input{ID: "a", Type: input.Text, Title: "\xff"}), "settings.0.title"},
		{"tooltip with NUL", one(input.Input{ID: "a", Type: input.Text, Tooltip: "\x00"}), "settings.0.tooltip"},
		{"longer placeholder", one(input.Input{ID: "a", Type: input.Text, Placeholder: kib + "x"}), "settings.0.placeholder"},

		{"enum", enum("a", "b"), ""},
		{"enum without options", enum(), "settings.0.options"},
		{"enum with an empty value", enum("a", ""), "settings.0.options.1.value"},
		{"enum with a value twice", enum("a", "b", "a"), "settings.0.options.2.value"},
		{"enum with a value not UTF-8", enum("\xff"), "settings.0.options.0.value"},
		{"enum with a long value", enum(kib + "x"), "settings.0.options.0.value"},
		{"enum with a long label", one(input.Input{ID: "a", Type: input.Enum, Options: []input.Option{{Value: "a", Label: kib + "x"}}}), "settings.0.options.0.label"},
		{"1,000 options", options(1000, 4), ""},
		{"1,001 options", options(1001, 4), "settings.0.options"},
		{"options of 96 KiB", options(1000, 100), "settings"},
		{"text with options", one(input.Input{ID: "a", Type: input.Text, Options: []input.Option{{Value: "a"}}}), "settings.0.options"},
		{"dynamic enum with options", one(input.Input{ID: "a", Type: input.DynamicEnum, Options: []input.Option{{Value: "a"}}}), "settings.0.options"},

		{"default of a text", one(input.Input{ID: "a", Type: input.Text, Default: "x"}), ""},
		{"empty default of a text", one(input.Input{ID: "a", Type: input.Text, Default: ""}), ""},
		{"default of another type", one(input.Input{ID: "a", Type: input.Text, Default: 1}), "settings.0.default"},
		{"text for a number", one(input.Input{ID: "a", Type: input.Number, Default: "1"}), "settings.0.default"},
		{"0 for a number", one(input.Input{ID: "a", Type: input.Number, Default: 0}), ""},
		{"an option", one(input.Input{ID: "a", Type: input.Enum, Options: []input.Option{{Value: "x"}}, Default: "x"}), ""},
		{"no option", one(input.Input{ID: "a", Type: input.Enum, Options: []input.Option{{Value: "x"}}, Default: "y"}), "settings.0.default"},
		{"empty default of an enum", one(input.Input{ID: "a", Type: input.Enum, Options: []input.Option{{Value: "x"}}, Default: ""}), "settings.0.default"},
		{"empty default of a combo", one(input.Input{ID: "a", Type: input.Combo, Default: map[string]any{}}), "settings.0.default"},
		{"default of a password", one(input.Input{ID: "a", Type: input.Password, Default: "x"}), "settings.0.default"},
		{"secret default of a password", one(input.Input{ID: "a", Type: input.Password, Default: crypto.NewSecret("x")}), "settings.0.default"},
		{"secret default of a text", one(input.Input{ID: "a", Type: input.Text, Default: crypto.NewSecret("x")}), "settings.0.default"},
		{"default of a file", one(input.Input{ID: "a", Type: input.File, Default: map[string]any{"name": "a", "data": ""}}), "settings.0.default"},
		{"default of a permission", one(input.Input{ID: "a", Type: input.Permission, Default: true}), "settings.0.default"},
		{"default of a copyable", one(input.Input{ID: "a", Type: input.Copyable, Default: "x"}), "settings.0.default"},

		{"required password", one(input.Input{ID: "a", Type: input.Password, Required: true}), ""},
		{"required copyable", one(input.Input{ID: "a", Type: input.Copyable, Required: true}), "settings.0.required"},
	} {
		got, err := input.Check("settings", tt.inputs)
		switch {
		case tt.field != "":
			wantField(t, "Check("+tt.name+")", err, tt.field)
			if got != nil {
				t.Errorf("Check(%s) = %v beside an error, want nil", tt.name, got)
			}
		case err != nil || len(got) != len(tt.inputs):
			t.Errorf("Check(%s) = %d inputs, %v, want %d", tt.name, len(got), err, len(tt.inputs))
		}
	}
	_, err := input.Check("setup", []input.Input{{ID: "a"}})
	wantField(t, "Check(setup)", err, "setup.0.type")
}

// Each type that is declared in Go is known, and there is no other.
func TestCheck_Types(t *testing.T) {
	t.Parallel()
	for _, typ := range allInputTypes {
		in := input.Input{ID: "a", Type: typ}
		if typ == input.Enum {
			in.Options = []input.Option{{Value: "x"}}
		}
		if _, err := input.Check("settings", []input.Input{in}); err != nil {
			t.Errorf("Check(%s) = %v, want nil", typ, err)
		}
	}
	if input.Known() != len(allInputTypes) {
		t.Errorf("%d types are known, want %d", input.Known(), len(allInputTypes))
	}
}

// What comes back is in normal form, shares nothing with what was given, and is the same when checked again.
func TestCheck_Copies(t *testing.T) {
	t.Parallel()
	fields := map[string]string{"Title": "Name"}
	given := []input.Input{
		{ID: "n", Type: input.Number, Default: int8(5)},
		{ID: "j", Type: input.Number, Default: json.Number("-0.5e1")},
		{ID: "m", Type: input.FieldMapper, Default: map[string]any{"fieldMappings": fields, "userCreatedFields": []string{"x"}}},
		{ID: "e", Type: input.Enum, Options: []input.Option{{Value: "x"}, {Value: "y"}}, Default: "y"},
	}
	want := []input.Input{
		{ID: "n", Type: input.Number, Default: 5.0},
		{ID: "j", Type: input.Number, Default: -5.0},
		{ID: "m", Type: input.FieldMapper, Default: map[string]any{
			"fieldMappings": map[string]any{"Title": "Name"}, "userCreatedFields": []any{"x"},
		}},
		{ID: "e", Type: input.Enum, Options: []input.Option{{Value: "x"}, {Value: "y"}}, Default: "y"},
	}
	got, err := input.Check("settings", given)
	if err != nil {
		t.Fatal(err)
	}
	given[3].Options[0].Value, given[0].ID, fields["Title"] = "changed", "changed", "changed"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Check (-want +got):\n%s", diff)
	}
	again, err := input.Check("settings", got)
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Errorf("Check of its own result = %v (-want +got):\n%s", err, diff)
	}
}

// A clone's list and options are its own.
func TestClone(t *testing.T) {
	t.Parallel()
	given := []input.Input{{ID: "a", Type: input.Text, Default: "x"}, {ID: "e", Type: input.Enum, Options: []input.Option{{Value: "x"}}}}
	clone := input.Clone(given)
	if diff := cmp.Diff(given, clone); diff != "" {
		t.Errorf("Clone (-want +got):\n%s", diff)
	}
	clone[0].ID, clone[1].Options[0].Value = "changed", "changed"
	if given[0].ID != "a" || given[1].Options[0].Value != "x" {
		t.Errorf("a change of a clone reached what was cloned: %+v", given)
	}
	if got := input.Clone(nil); got != nil {
		t.Errorf("Clone(nil) = %#v, want nil", got)
	}
}

// What is counted for declarations bounds what the integration's record takes up.
func TestCheck_Size(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, in := range []input.Input{
		{ID: "a", Type: input.Text},
		{ID: "a", Type: input.Text, Title: long, Tooltip: long, Placeholder: long, Required: true, Default: long},
		{ID: "a", Type: input.Number, Required: true, Default: 0.1},
		{ID: "a", Type: input.Enum, Options: []input.Option{{Value: "a"}, {Value: long, Label: long}}, Default: "a"},
		{ID: "a", Type: input.FieldMapper, Default: map[string]any{"fieldMappings": map[string]any{"": "", long: long}, "userCreatedFields": []any{"", ""}}},
	} {
		stored, err := cbor.Marshal(in)
		if got := input.DeclaredSize(&in); err != nil || got < len(stored) {
			t.Errorf("input.DeclaredSize(%s) = %d, %v, want at least the %d bytes that it takes", in.Type, got, err, len(stored))
		}
	}
}
