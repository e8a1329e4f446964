package input_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// object is shorter to write.
type object = map[string]any

// stored is values as a test can compare and print them.
type stored struct {
	Open    map[string]any
	Secrets map[string]string
}

func revealed(v input.Values) stored {
	s := stored{Open: maps.Clone(v.Open), Secrets: map[string]string{}}
	if s.Open == nil {
		s.Open = map[string]any{}
	}
	for id, secret := range v.Secrets {
		s.Secrets[id] = secret.Reveal()
	}
	return s
}

// A password comes in as text or Secret, and out nowhere.
func TestSecurity17_Passwords(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-71c2"
	inputs := oneOfEach(t)
	id := string(input.Password)
	old, err := input.Merge("settings", inputs, input.Values{}, object{id: "old " + canary})
	if err != nil {
		t.Fatal(err)
	}
	type word string
	for _, tt := range []struct {
		name string
		give any
		want string // empty: removed
		ok   bool
	}{
		{"text", canary, canary, true},
		{"text of a type of its own", word(canary), canary, true},
		{"secret", crypto.NewSecret(canary), canary, true},
		{"lines", "-----BEGIN\n" + canary, "-----BEGIN\n" + canary, true},
		{"8 KiB", strings.Repeat("x", 8<<10), strings.Repeat("x", 8<<10), true},
		{"null", nil, "", true},
		{"empty", "", "", false},
		{"empty secret", crypto.Secret{}, "", false},
		{"more than 8 KiB", canary + strings.Repeat("x", 8<<10), "", false},
		{"NUL", canary + "\x00", "", false},
		{"not UTF-8", crypto.NewSecret(canary + "\xff"), "", false},
		{"number", 12345678, "", false},
		{"json.Number", json.Number("12345678"), "", false},
		{"object", object{canary: canary}, "", false},
		{"bytes", []byte(canary), "", false},
		{"pointer to a secret", &crypto.Secret{}, "", false},
	} {
		got, err := input.Merge("settings", inputs, old, object{id: tt.give})
		if !tt.ok {
			wantField(t, "Merge("+tt.name+")", err, "settings."+id)
			if text := fmt.Sprint(err); strings.Contains(text, canary) || strings.Contains(text, "12345678") {
				t.Errorf("Merge(%s) = %v, want no value in it", tt.name, err)
			}
			continue
		}
		want := stored{object{}, map[string]string{}}
		if tt.want != "" {
			want.Secrets[id] = tt.want
		}
		if diff := cmp.Diff(want, revealed(got)); err != nil || diff != "" {
			t.Errorf("Merge(%s) = %v (-want +got):\n%s", tt.name, err, diff)
		}
		open, passwords, _ := input.Shown(inputs, got)
		if set := slices.Equal(passwords, []string{id}); len(open) > 0 || set != (tt.want != "") {
			t.Errorf("Shown(%s) = %v, %v, want no value, and the id where one is set", tt.name, open, passwords)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, canary) {
			t.Errorf("%s prints as %s, want no password in it", tt.name, text)
		}
	}
	if got := old.Secrets[id].Reveal(); got != "old "+canary {
		t.Errorf("the old values hold %q now, want them untouched", got)
	}
}

// No error shows a value that was given, whatever the type.
func TestMerge_ErrorsShowNothing(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-71c2"
	inputs := oneOfEach(t)
	for _, in := range inputs {
		for _, v := range []any{
			canary + "\x00", canary + "\n\xff", canary + strings.Repeat("x", 64<<10), object{canary: canary}, []any{canary},
			object{"mainInput": object{canary: nil}}, object{"name": canary, "data": canary}, json.Number(canary),
			struct{ X string }{canary}, map[int]string{1: canary}, json.RawMessage(canary), 7.25e77, math.NaN(),
		} {
			_, err := input.Merge("settings", inputs, input.Values{}, object{in.ID: v})
			if err != nil && (strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "7.25")) {
				t.Errorf("Merge(%s: %T) = %v, want no value in it", in.ID, v, err)
			}
		}
	}
}

func TestMerge_UnknownKeys(t *testing.T) {
	t.Parallel()
	inputs := oneOfEach(t)
	for _, tt := range []struct{ key, field string }{
		{"unknown", "settings.unknown"},
		{"Text", "settings.Text"},
		{"", "settings"},
		{"a b", "settings"},
		{"\x1b[31m", "settings"},
		{strings.Repeat("a", 65), "settings"},
	} {
		for _, v := range []any{"x", nil} {
			got, err := input.Merge("settings", inputs, input.Values{}, object{"text": "x", tt.key: v})
			wantField(t, fmt.Sprintf("Merge(%q)", tt.key), err, tt.field)
			if got.Open != nil || got.Secrets != nil {
				t.Errorf("Merge(%q) = %v beside an error, want nothing", tt.key, got)
			}
		}
	}
	_, err := input.Merge("setup", nil, input.Values{}, object{"b": 1, "a": 2})
	wantField(t, "Merge of two unknown keys", err, "setup.a") // always the same of them
}

func TestMerge_Story(t *testing.T) {
	t.Parallel()
	inputs := []input.Input{
		{ID: "a", Type: input.Text}, {ID: "b", Type: input.Text}, {ID: "m", Type: input.Combo}, {ID: "p", Type: input.Password},
	}
	merge := func(old input.Values, change map[string]any, want stored) input.Values {
		t.Helper()
		before := revealed(old)
		got, err := input.Merge("settings", inputs, old, change)
		if diff := cmp.Diff(want, revealed(got)); err != nil || diff != "" {
			t.Fatalf("Merge(%v) = %v (-want +got):\n%s", change, err, diff)
		}
		if diff := cmp.Diff(before, revealed(old)); diff != "" {
			t.Errorf("Merge(%v) changed what was there (-before +after):\n%s", change, diff)
		}
		return got
	}
	none := map[string]string{}
	v := merge(input.Values{}, nil, stored{object{}, none})
	v = merge(v, object{"a": "1", "p": "s"}, stored{object{"a": "1"}, map[string]string{"p": "s"}})
	v = merge(v, object{}, stored{object{"a": "1"}, map[string]string{"p": "s"}})
	combo := object{"mainInput": "x", "dependentInput": "y"}
	change := object{"b": "2", "m": combo}
	v = merge(v, change, stored{object{"a": "1", "b": "2", "m": object{"mainInput": "x", "dependentInput": "y"}}, map[string]string{"p": "s"}})
	combo["mainInput"], change["b"] = "changed", "changed" // the caller's maps stay the caller's
	// An object is replaced as a whole.
	v = merge(v, object{"m": object{"mainInput": "z"}, "a": nil}, stored{object{"b": "2", "m": object{"mainInput": "z"}}, map[string]string{"p": "s"}})

	// One bad value, and nothing of the change happens.
	if got, err := input.Merge("settings", inputs, v, object{"a": "good", "b": 2}); err == nil || got.Open != nil {
		t.Errorf("Merge(one bad value) = %v, %v, want an error and nothing", got, err)
	}

	// What is no longer declared stays, is not returned, and comes back when it is declared again.
	all := inputs
	inputs = all[:1]
	v = merge(v, object{"a": "3"}, stored{object{"a": "3", "b": "2", "m": object{"mainInput": "z"}}, map[string]string{"p": "s"}})
	open, passwords, _ := input.Shown(inputs, v)
	if diff := cmp.Diff(object{"a": "3"}, open); diff != "" || passwords != nil {
		t.Errorf("Shown = %v (-want +got):\n%s", passwords, diff)
	}
	open, passwords, _ = input.Shown(all, v)
	if diff := cmp.Diff(object{"a": "3", "b": "2", "m": object{"mainInput": "z"}}, open); diff != "" || !slices.Equal(passwords, []string{"p"}) {
		t.Errorf("Shown = %v (-want +got):\n%s", passwords, diff)
	}
	// What is shown is the caller's.
	open["m"].(object)["mainInput"] = "changed"
	if got := v.Open["m"].(object)["mainInput"]; got != "z" {
		t.Errorf("a change of what was shown reached what is stored: %v", got)
	}

	// A text that becomes a password is not shown, and neither is a password that becomes a text.
	inputs = []input.Input{{ID: "b", Type: input.Password, Required: true}, {ID: "p", Type: input.Text, Required: true}}
	open, passwords, missing := input.Shown(inputs, v)
	if len(open) > 0 || passwords != nil || !slices.Equal(missing, []string{"b", "p"}) {
		t.Errorf("Shown(types swapped) = %v, %v, %v, want both missing", open, passwords, missing)
	}
	merge(v, object{"b": "secret", "p": "text"}, stored{
		object{"a": "3", "m": object{"mainInput": "z"}, "p": "text"}, map[string]string{"b": "secret"},
	})
}

func TestMerge_Size(t *testing.T) {
	t.Parallel()
	var inputs []input.Input
	for i := range 5 {
		inputs = append(inputs, input.Input{ID: fmt.Sprintf("t%d", i), Type: input.TextArea}, input.Input{ID: fmt.Sprintf("p%d", i), Type: input.Password})
	}
	half := strings.Repeat("x", 60<<10)
	v, err := input.Merge("settings", inputs, input.Values{}, object{"t0": half, "t1": half})
	if err != nil {
		t.Fatal(err)
	}
	_, err = input.Merge("settings", inputs, v, object{"t2": half[:10<<10]})
	wantField(t, "Merge(130 KiB)", err, "settings")
	_, err = input.Merge("settings", inputs, v, object{"p0": half[:7<<10], "p1": half[:7<<10]})
	wantField(t, "Merge(134 KiB with passwords)", err, "settings")
	if _, err = input.Merge("settings", inputs, v, object{"t2": half, "t0": nil}); err != nil {
		t.Errorf("Merge(one for another) = %v, want nil", err)
	}

	// What is not declared any more gives way, but only where it has to.
	inputs = inputs[2:] // t0 and p0 go
	v.Secrets = map[string]crypto.Secret{"p0": crypto.NewSecret("x")}
	got, err := input.Merge("settings", inputs, v, object{"t2": "x"})
	if err != nil || got.Open["t0"] != half || got.Secrets["p0"].IsZero() {
		t.Errorf("Merge(a little more) = %v, want what is no longer declared to stay", err)
	}
	got, err = input.Merge("settings", inputs, v, object{"t2": half})
	if _, left := got.Open["t0"]; err != nil || left || len(got.Open) != 2 || len(got.Secrets) != 0 {
		t.Errorf("Merge(much more) = %v, want what is no longer declared to go", err)
	}
}

// What is counted for values bounds what they take up in a record.
func TestValues_Size(t *testing.T) {
	t.Parallel()
	numbers, texts, secrets, nested := object{}, object{}, map[string]crypto.Secret{}, object{}
	for i := range 100 {
		id := fmt.Sprintf("%060d", i)
		numbers[id], texts[id], secrets[id] = 0.1, strings.Repeat("x", 1<<10), crypto.NewSecret(id)
		nested[id] = object{"userCreatedFields": []any{"", id}, "fieldMappings": object{strings.Repeat(id, 10): id}}
	}
	for name, v := range map[string]input.Values{
		"numbers": {Open: numbers}, "texts": {Open: texts}, "secrets": {Secrets: secrets}, "nested": {Open: nested},
	} {
		open, err := cbor.Marshal(v.Open)
		if err != nil {
			t.Fatal(err)
		}
		passwords, err := cbor.Marshal(revealed(v).Secrets)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.Size(), len(open)+len(passwords); got < want || got > 2*want {
			t.Errorf("size of %s = %d, want from %d, which is what it takes, to twice that", name, got, want)
		}
	}
}

func TestShown_Required(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typ          input.Type
		name         string
		value, byDef any
		missing      bool
		want         any
	}{
		{input.Text, "nothing", nil, nil, true, nil},
		{input.Text, "text", "x", nil, false, "x"},
		{input.Text, "empty", "", nil, true, ""},
		{input.Text, "default", nil, "d", false, "d"},
		{input.Text, "empty hides no default", "", "d", false, "d"},
		{input.Text, "empty default", nil, "", true, ""},
		{input.TextArea, "empty", "", nil, true, ""},
		{input.Number, "0", 0, nil, false, 0.0},
		{input.Number, "default", nil, 5, false, 5.0},
		{input.Email, "empty", "", nil, true, nil},
		{input.Boolean, "false", false, nil, false, false},
		{input.Boolean, "false over a default", false, true, false, false},
		{input.Switch, "nothing", nil, nil, true, nil},
		{input.Permission, "true", true, nil, false, true},
		{input.Permission, "false", false, nil, true, false},
		{input.Combo, "both", object{"mainInput": "a", "dependentInput": "b"}, nil, false, object{"mainInput": "a", "dependentInput": "b"}},
		{input.Combo, "half", object{"mainInput": "a"}, nil, true, object{"mainInput": "a"}},
		{input.Combo, "the other half", object{"dependentInput": "a"}, nil, true, object{"dependentInput": "a"}},
		{input.Combo, "half of a default", object{"mainInput": "a"}, object{"mainInput": "d", "dependentInput": "e"}, false, object{"mainInput": "d", "dependentInput": "e"}},
		{input.DynamicCombo, "fields", object{"mainInput": "a", "fieldMappings": object{"L": "f"}}, nil, false, object{"mainInput": "a", "fieldMappings": object{"L": "f"}}},
		{input.DynamicCombo, "empty fields", object{"mainInput": "a", "fieldMappings": object{"L": ""}}, nil, true, object{"mainInput": "a", "fieldMappings": object{"L": ""}}},
		{input.FieldMapper, "object", object{"objectMapping": "Contact"}, nil, false, object{"objectMapping": "Contact"}},
		{input.FieldMapper, "field", object{"fieldMappings": object{"L": "f"}}, nil, false, object{"fieldMappings": object{"L": "f"}}},
		{input.FieldMapper, "dynamic", object{"dynamicMappings": object{"k": object{"integrationField": "i"}}}, nil, false, object{"dynamicMappings": object{"k": object{"integrationField": "i"}}}},
		{input.FieldMapper, "nothing mapped", object{"dynamicMappings": object{"k": object{"applicationField": "a"}}, "mappingType": "DYNAMIC"}, nil, true, object{"dynamicMappings": object{"k": object{"applicationField": "a"}}, "mappingType": "DYNAMIC"}},
		{input.File, "file", object{"name": "a", "data": "AA=="}, nil, false, object{"name": "a", "data": "AA=="}},
		{input.File, "empty file", object{"name": "a", "data": ""}, nil, true, object{"name": "a", "data": ""}},
		{input.Password, "nothing", nil, nil, true, nil},
		{input.Password, "password", "x", nil, false, nil},
	} {
		inputs, err := input.Check("settings", []input.Input{{ID: "i", Type: tt.typ, Default: tt.byDef, Required: true}})
		if err != nil {
			t.Errorf("Check(%s: %s) = %v, want nil", tt.typ, tt.name, err)
			continue
		}
		v, err := input.Merge("settings", inputs, input.Values{}, object{"i": tt.value})
		if err != nil {
			t.Errorf("Merge(%s: %s) = %v, want nil", tt.typ, tt.name, err)
			continue
		}
		open, _, missing := input.Shown(inputs, v)
		if got := slices.Equal(missing, []string{"i"}); got != tt.missing {
			t.Errorf("Shown(%s: %s) = missing %v, want %t", tt.typ, tt.name, missing, tt.missing)
		}
		if diff := cmp.Diff(tt.want, open["i"]); diff != "" {
			t.Errorf("Shown(%s: %s) (-want +got):\n%s", tt.typ, tt.name, diff)
		}
		// The same input, not required, is never missing, and shows what was given.
		inputs[0].Required = false
		if _, _, missing := input.Shown(inputs, v); missing != nil {
			t.Errorf("Shown(%s: %s, not required) = missing %v, want none", tt.typ, tt.name, missing)
		}
	}
}

// A declaration that changed since a value was given: what no longer fits it counts as not given.
func TestShown_ChangedDeclaration(t *testing.T) {
	t.Parallel()
	v := input.Values{Open: object{"a": "daily", "b": "text", "c": 5.0}, Secrets: map[string]crypto.Secret{"a": crypto.NewSecret("x")}}
	inputs := []input.Input{
		{ID: "c", Type: input.Text, Required: true},
		{ID: "a", Type: input.Enum, Options: []input.Option{{Value: "weekly"}}, Default: "weekly"},
		{ID: "b", Type: input.Number, Required: true},
		{ID: "d", Type: input.Copyable},
		{ID: "e", Type: "of a later version", Required: true},
	}
	open, passwords, missing := input.Shown(inputs, v)
	if diff := cmp.Diff(object{"a": "weekly"}, open); diff != "" || passwords != nil {
		t.Errorf("Shown = passwords %v (-want +got):\n%s", passwords, diff)
	}
	if diff := cmp.Diff([]string{"c", "b", "e"}, missing); diff != "" {
		t.Errorf("Shown, missing (-want +got):\n%s", diff)
	}
	if open, _, _ := input.Shown(nil, v); open == nil || len(open) > 0 {
		t.Errorf("Shown(no inputs) = %#v, want an empty map", open)
	}
}

// The default that is shown is a copy.
func TestShown_DefaultCopied(t *testing.T) {
	t.Parallel()
	inputs, err := input.Check("settings", []input.Input{{ID: "a", Type: input.Combo, Default: object{"mainInput": "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	open, _, _ := input.Shown(inputs, input.Values{})
	open["a"].(object)["mainInput"] = "changed"
	if open, _, _ = input.Shown(inputs, input.Values{}); open["a"].(object)["mainInput"] != "x" {
		t.Error("a change of what was shown reached the declaration")
	}
}

// FuzzMerge: whatever JSON is given, nothing panics, no password is shown, a change made twice is made once, and
// changes of different keys may come in any order.
func FuzzMerge(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"text":"a","password":"CANARY"}`, `{"password":null,"number":-0}`, `{"password":""}`,
		`{"number":1e999,"email":"ada@example.com"}`, `{"url":"https://example.com","enum":"daily","boolean":false}`,
		`{"combo":{"mainInput":"a","dependentInput":"b"},"file":{"name":"a","data":"AA=="}}`,
		`{"field_mapper":{"dynamicMappings":{"k":{"applicationField":"a"}},"userCreatedFields":[""]},"copyable":null}`,
		`{"dynamic_combo":{"fieldMappings":{"L":null}},"unknown":1,"\u0000":[[[[[[]]]]]]}`,
	} {
		f.Add([]byte(seed), []byte(`{"text":"b","switch":true,"dynamic_enum":""}`), true)
		f.Add([]byte(`{"textarea":"x\ny"}`), []byte(seed), false)
	}
	inputs := oneOfEach(f)
	old, err := input.Merge("settings", append(slices.Clone(inputs), input.Input{ID: "gone", Type: input.Text}), input.Values{},
		object{"gone": "x", "text": "old", "password": "old-password", "number": 7})
	if err != nil {
		f.Fatal(err)
	}
	before := revealed(old)
	parse := func(data []byte, numbers bool) (change map[string]any, ok bool) {
		d := json.NewDecoder(strings.NewReader(string(data)))
		if numbers {
			d.UseNumber()
		}
		return change, d.Decode(&change) == nil
	}
	merge := func(t *testing.T, old input.Values, change map[string]any) (input.Values, bool) {
		got, err := input.Merge("settings", inputs, old, change)
		if err != nil && !errors.As(err, new(*input.Error)) {
			t.Errorf("Merge(%v) = %v, want an Error", change, err)
		}
		return got, err == nil
	}
	f.Fuzz(func(t *testing.T, first, second []byte, numbers bool) {
		a, ok := parse(first, numbers)
		b, okb := parse(second, numbers)
		if !ok || !okb {
			return
		}
		v, ok := merge(t, old, a)
		if diff := cmp.Diff(before, revealed(old)); diff != "" {
			t.Fatalf("Merge(%s) changed what was there:\n%s", first, diff)
		}
		if !ok {
			return
		}
		if v.Open["gone"] != "x" {
			t.Errorf("Merge(%s) lost what is not declared any more", first)
		}
		open, passwords, missing := input.Shown(inputs, v)
		for _, at := range []map[string]any{open, v.Open} {
			if _, ok := at["password"]; ok {
				t.Errorf("Merge(%s) put a password among the open values", first)
			}
		}
		if _, set := v.Secrets["password"]; set != (len(passwords) == 1) || missing != nil {
			t.Errorf("Shown(%s) = passwords %v, missing %v, want what is set, and none", first, passwords, missing)
		}
		again, ok := merge(t, v, a)
		if diff := cmp.Diff(revealed(v), revealed(again)); !ok || diff != "" {
			t.Errorf("Merge(%s), twice (-once +twice):\n%s", first, diff)
		}
		// What is shown can be given back: front ends send whole documents.
		back, ok := merge(t, v, open)
		if diff := cmp.Diff(revealed(v), revealed(back)); !ok || diff != "" {
			t.Errorf("Merge(what is shown of %s) (-before +after):\n%s", first, diff)
		}
		if encoded, err := cbor.Marshal(revealed(v)); err != nil || len(encoded) > v.Size()+64 {
			t.Errorf("%s takes %d bytes, %v, want no more than the %d that are counted", first, len(encoded), err, v.Size())
		}
		for key := range a {
			if _, shared := b[key]; shared {
				return
			}
		}
		ab, ok1 := merge(t, v, b)
		other, okb := merge(t, old, b)
		if !okb {
			return
		}
		ba, ok2 := merge(t, other, a)
		if diff := cmp.Diff(revealed(ab), revealed(ba)); ok1 != ok2 || diff != "" {
			t.Errorf("Merge(%s, %s) = %t in one order and %t in the other:\n%s", first, second, ok1, ok2, diff)
		}
	})
}
