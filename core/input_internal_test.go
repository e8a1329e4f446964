package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
)

var allInputTypes = []InputType{
	InputText, InputTextArea, InputNumber, InputEmail, InputURL, InputPassword, InputBoolean, InputSwitch, InputEnum,
	InputDynamicEnum, InputCustomDropdown, InputCombo, InputDynamicCombo, InputFieldMapper, InputCopyable,
	InputPermission, InputFile,
}

// wantField checks that err is an InputError about a field.
func wantField(t *testing.T, call string, err error, field string) {
	t.Helper()
	var input *InputError
	if !errors.As(err, &input) || !errors.Is(err, ErrInvalid) || input.Field != field || input.Reason == "" {
		t.Errorf("%s = %v, want an InputError about %q", call, err, field)
	}
}

func TestCheckInputs(t *testing.T) {
	t.Parallel()
	one := func(in Input) []Input { return []Input{in} }
	enum := func(values ...string) []Input {
		in := Input{ID: "a", Type: InputEnum}
		for _, v := range values {
			in.Options = append(in.Options, InputOption{Value: v})
		}
		return one(in)
	}
	many := func(n int) (inputs []Input) {
		for i := range n {
			inputs = append(inputs, Input{ID: fmt.Sprint(i), Type: InputText})
		}
		return inputs
	}
	options := func(n, size int) []Input {
		var values []string
		for i := range n {
			values = append(values, fmt.Sprintf("%0*d", size, i))
		}
		return enum(values...)
	}
	kib := strings.Repeat("x", 1<<10)
	for _, tt := range []struct {
		name   string
		inputs []Input
		field  string // empty: accepted
	}{
		{"none", nil, ""},
		{"one", one(Input{ID: "a", Type: InputText}), ""},
		{"all of text", one(Input{ID: "a.b-C_9", Type: InputText, Title: "Grüße", Tooltip: "a\nb", Placeholder: "…", Required: true, Default: "x"}), ""},
		{"100 inputs", many(100), ""},
		{"101 inputs", many(101), "settings"},

		{"no id", one(Input{Type: InputText}), "settings.0.id"},
		{"id of 64 bytes", one(Input{ID: strings.Repeat("a", 64), Type: InputText}), ""},
		{"id of 65 bytes", one(Input{ID: strings.Repeat("a", 65), Type: InputText}), "settings.0.id"},
		{"id with a blank", one(Input{ID: "a b", Type: InputText}), "settings.0.id"},
		{"id with a slash", one(Input{ID: "a/b", Type: InputText}), "settings.0.id"},
		{"id with an umlaut", one(Input{ID: "ä", Type: InputText}), "settings.0.id"},
		{"id with NUL", one(Input{ID: "a\x00", Type: InputText}), "settings.0.id"},
		{"id twice", []Input{{ID: "a", Type: InputText}, {ID: "b", Type: InputText}, {ID: "a", Type: InputNumber}}, "settings.2.id"},
		{"ids that differ in case", []Input{{ID: "a", Type: InputText}, {ID: "A", Type: InputText}}, ""},

		{"no type", one(Input{ID: "a"}), "settings.0.type"},
		{"unknown type", []Input{{ID: "a", Type: InputText}, {ID: "b", Type: "TEXT"}}, "settings.1.type"},

		{"title of 1 KiB", one(Input{ID: "a", Type: InputText, Title: kib}), ""},
		{"longer title", one(Input{ID: "a", Type: InputText, Title: kib + "x"}), "settings.0.title"},
		{"title not UTF-8", one(Input{ID: "a", Type: InputText, Title: "\xff"}), "settings.0.title"},
		{"tooltip with NUL", one(Input{ID: "a", Type: InputText, Tooltip: "\x00"}), "settings.0.tooltip"},
		{"longer placeholder", one(Input{ID: "a", Type: InputText, Placeholder: kib + "x"}), "settings.0.placeholder"},

		{"enum", enum("a", "b"), ""},
		{"enum without options", enum(), "settings.0.options"},
		{"enum with an empty value", enum("a", ""), "settings.0.options.1.value"},
		{"enum with a value twice", enum("a", "b", "a"), "settings.0.options.2.value"},
		{"enum with a value not UTF-8", enum("\xff"), "settings.0.options.0.value"},
		{"enum with a long value", enum(kib + "x"), "settings.0.options.0.value"},
		{"enum with a long label", one(Input{ID: "a", Type: InputEnum, Options: []InputOption{{Value: "a", Label: kib + "x"}}}), "settings.0.options.0.label"},
		{"1,000 options", options(1000, 4), ""},
		{"1,001 options", options(1001, 4), "settings.0.options"},
		{"options of 96 KiB", options(1000, 100), "settings"},
		{"text with options", one(Input{ID: "a", Type: InputText, Options: []InputOption{{Value: "a"}}}), "settings.0.options"},
		{"dynamic enum with options", one(Input{ID: "a", Type: InputDynamicEnum, Options: []InputOption{{Value: "a"}}}), "settings.0.options"},

		{"default of a text", one(Input{ID: "a", Type: InputText, Default: "x"}), ""},
		{"empty default of a text", one(Input{ID: "a", Type: InputText, Default: ""}), ""},
		{"default of another type", one(Input{ID: "a", Type: InputText, Default: 1}), "settings.0.default"},
		{"text for a number", one(Input{ID: "a", Type: InputNumber, Default: "1"}), "settings.0.default"},
		{"0 for a number", one(Input{ID: "a", Type: InputNumber, Default: 0}), ""},
		{"an option", one(Input{ID: "a", Type: InputEnum, Options: []InputOption{{Value: "x"}}, Default: "x"}), ""},
		{"no option", one(Input{ID: "a", Type: InputEnum, Options: []InputOption{{Value: "x"}}, Default: "y"}), "settings.0.default"},
		{"empty default of an enum", one(Input{ID: "a", Type: InputEnum, Options: []InputOption{{Value: "x"}}, Default: ""}), "settings.0.default"},
		{"empty default of a combo", one(Input{ID: "a", Type: InputCombo, Default: map[string]any{}}), "settings.0.default"},
		{"default of a password", one(Input{ID: "a", Type: InputPassword, Default: "x"}), "settings.0.default"},
		{"secret default of a password", one(Input{ID: "a", Type: InputPassword, Default: crypto.NewSecret("x")}), "settings.0.default"},
		{"secret default of a text", one(Input{ID: "a", Type: InputText, Default: crypto.NewSecret("x")}), "settings.0.default"},
		{"default of a file", one(Input{ID: "a", Type: InputFile, Default: map[string]any{"name": "a", "data": ""}}), "settings.0.default"},
		{"default of a permission", one(Input{ID: "a", Type: InputPermission, Default: true}), "settings.0.default"},
		{"default of a copyable", one(Input{ID: "a", Type: InputCopyable, Default: "x"}), "settings.0.default"},

		{"required password", one(Input{ID: "a", Type: InputPassword, Required: true}), ""},
		{"required copyable", one(Input{ID: "a", Type: InputCopyable, Required: true}), "settings.0.required"},
	} {
		got, err := checkInputs("settings", tt.inputs)
		switch {
		case tt.field != "":
			wantField(t, "checkInputs("+tt.name+")", err, tt.field)
			if got != nil {
				t.Errorf("checkInputs(%s) = %v beside an error, want nil", tt.name, got)
			}
		case err != nil || len(got) != len(tt.inputs):
			t.Errorf("checkInputs(%s) = %d inputs, %v, want %d", tt.name, len(got), err, len(tt.inputs))
		}
	}
	_, err := checkInputs("setup", []Input{{ID: "a"}})
	wantField(t, "checkInputs(setup)", err, "setup.0.type")
}

// Each type that is declared in Go is known, and there is no other.
func TestCheckInputs_Types(t *testing.T) {
	t.Parallel()
	for _, typ := range allInputTypes {
		in := Input{ID: "a", Type: typ}
		if typ == InputEnum {
			in.Options = []InputOption{{Value: "x"}}
		}
		if _, err := checkInputs("settings", []Input{in}); err != nil {
			t.Errorf("checkInputs(%s) = %v, want nil", typ, err)
		}
	}
	if len(inputKinds) != len(allInputTypes) {
		t.Errorf("%d types are known, want %d", len(inputKinds), len(allInputTypes))
	}
}

// What comes back is in normal form, shares nothing with what was given, and is the same when checked again.
func TestCheckInputs_Copies(t *testing.T) {
	t.Parallel()
	fields := map[string]string{"Title": "Name"}
	given := []Input{
		{ID: "n", Type: InputNumber, Default: int8(5)},
		{ID: "j", Type: InputNumber, Default: json.Number("-0.5e1")},
		{ID: "m", Type: InputFieldMapper, Default: map[string]any{"fieldMappings": fields, "userCreatedFields": []string{"x"}}},
		{ID: "e", Type: InputEnum, Options: []InputOption{{Value: "x"}, {Value: "y"}}, Default: "y"},
	}
	want := []Input{
		{ID: "n", Type: InputNumber, Default: 5.0},
		{ID: "j", Type: InputNumber, Default: -5.0},
		{ID: "m", Type: InputFieldMapper, Default: map[string]any{
			"fieldMappings": map[string]any{"Title": "Name"}, "userCreatedFields": []any{"x"},
		}},
		{ID: "e", Type: InputEnum, Options: []InputOption{{Value: "x"}, {Value: "y"}}, Default: "y"},
	}
	got, err := checkInputs("settings", given)
	if err != nil {
		t.Fatal(err)
	}
	given[3].Options[0].Value, given[0].ID, fields["Title"] = "changed", "changed", "changed"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checkInputs (-want +got):\n%s", diff)
	}
	again, err := checkInputs("settings", got)
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Errorf("checkInputs of its own result = %v (-want +got):\n%s", err, diff)
	}
}

// What is counted for declarations bounds what the integration's record takes up.
func TestCheckInputs_Size(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, in := range []Input{
		{ID: "a", Type: InputText},
		{ID: "a", Type: InputText, Title: long, Tooltip: long, Placeholder: long, Required: true, Default: long},
		{ID: "a", Type: InputNumber, Required: true, Default: 0.1},
		{ID: "a", Type: InputEnum, Options: []InputOption{{Value: "a"}, {Value: long, Label: long}}, Default: "a"},
		{ID: "a", Type: InputFieldMapper, Default: map[string]any{"fieldMappings": map[string]any{"": "", long: long}, "userCreatedFields": []any{"", ""}}},
	} {
		stored, err := cbor.Marshal(in)
		if got := declaredSize(&in); err != nil || got < len(stored) {
			t.Errorf("declaredSize(%s) = %d, %v, want at least the %d bytes that it takes", in.Type, got, err, len(stored))
		}
	}
}
