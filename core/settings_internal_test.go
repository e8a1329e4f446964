package core

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
	"github.com/polycred/polycred/crypto"
)

// object is shorter to write.
type object = map[string]any

// stored is values as a test can compare and print them.
type stored struct {
	Open    map[string]any
	Secrets map[string]string
}

func (v values) revealed() stored {
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
	id := string(InputPassword)
	old, err := mergeValues("settings", inputs, values{}, object{id: "old " + canary})
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
		got, err := mergeValues("settings", inputs, old, object{id: tt.give})
		if !tt.ok {
			wantField(t, "mergeValues("+tt.name+")", err, "settings."+id)
			if text := fmt.Sprint(err); strings.Contains(text, canary) || strings.Contains(text, "12345678") {
				t.Errorf("mergeValues(%s) = %v, want no value in it", tt.name, err)
			}
			continue
		}
		want := stored{object{}, map[string]string{}}
		if tt.want != "" {
			want.Secrets[id] = tt.want
		}
		if diff := cmp.Diff(want, got.revealed()); err != nil || diff != "" {
			t.Errorf("mergeValues(%s) = %v (-want +got):\n%s", tt.name, err, diff)
		}
		open, passwords, _ := shownValues(inputs, got)
		if set := slices.Equal(passwords, []string{id}); len(open) > 0 || set != (tt.want != "") {
			t.Errorf("shownValues(%s) = %v, %v, want no value, and the id where one is set", tt.name, open, passwords)
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
func TestMergeValues_ErrorsShowNothing(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-71c2"
	inputs := oneOfEach(t)
	for _, in := range inputs {
		for _, v := range []any{
			canary + "\x00", canary + "\n\xff", canary + strings.Repeat("x", 64<<10), object{canary: canary}, []any{canary},
			object{"mainInput": object{canary: nil}}, object{"name": canary, "data": canary}, json.Number(canary),
			struct{ X string }{canary}, map[int]string{1: canary}, json.RawMessage(canary), 7.25e77, math.NaN(),
		} {
			_, err := mergeValues("settings", inputs, values{}, object{in.ID: v})
			if err != nil && (strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "7.25")) {
				t.Errorf("mergeValues(%s: %T) = %v, want no value in it", in.ID, v, err)
			}
		}
	}
}

func TestMergeValues_UnknownKeys(t *testing.T) {
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
			got, err := mergeValues("settings", inputs, values{}, object{"text": "x", tt.key: v})
			wantField(t, fmt.Sprintf("mergeValues(%q)", tt.key), err, tt.field)
			if got.Open != nil || got.Secrets != nil {
				t.Errorf("mergeValues(%q) = %v beside an error, want nothing", tt.key, got)
			}
		}
	}
	_, err := mergeValues("setup", nil, values{}, object{"b": 1, "a": 2})
	wantField(t, "mergeValues of two unknown keys", err, "setup.a") // always the same of them
}

func TestMergeValues_Story(t *testing.T) {
	t.Parallel()
	inputs := []Input{
		{ID: "a", Type: InputText}, {ID: "b", Type: InputText}, {ID: "m", Type: InputCombo}, {ID: "p", Type: InputPassword},
	}
	merge := func(old values, change map[string]any, want stored) values {
		t.Helper()
		before := old.revealed()
		got, err := mergeValues("settings", inputs, old, change)
		if diff := cmp.Diff(want, got.revealed()); err != nil || diff != "" {
			t.Fatalf("mergeValues(%v) = %v (-want +got):\n%s", change, err, diff)
		}
		if diff := cmp.Diff(before, old.revealed()); diff != "" {
			t.Errorf("mergeValues(%v) changed what was there (-before +after):\n%s", change, diff)
		}
		return got
	}
	none := map[string]string{}
	v := merge(values{}, nil, stored{object{}, none})
	v = merge(v, object{"a": "1", "p": "s"}, stored{object{"a": "1"}, map[string]string{"p": "s"}})
	v = merge(v, object{}, stored{object{"a": "1"}, map[string]string{"p": "s"}})
	combo := object{"mainInput": "x", "dependentInput": "y"}
	change := object{"b": "2", "m": combo}
	v = merge(v, change, stored{object{"a": "1", "b": "2", "m": object{"mainInput": "x", "dependentInput": "y"}}, map[string]string{"p": "s"}})
	combo["mainInput"], change["b"] = "changed", "changed" // the caller's maps stay the caller's
	// An object is replaced as a whole.
	v = merge(v, object{"m": object{"mainInput": "z"}, "a": nil}, stored{object{"b": "2", "m": object{"mainInput": "z"}}, map[string]string{"p": "s"}})

	// One bad value, and nothing of the change happens.
	if got, err := mergeValues("settings", inputs, v, object{"a": "good", "b": 2}); err == nil || got.Open != nil {
		t.Errorf("mergeValues(one bad value) = %v, %v, want an error and nothing", got, err)
	}

	// What is no longer declared stays, is not returned, and comes back when it is declared again.
	all := inputs
	inputs = all[:1]
	v = merge(v, object{"a": "3"}, stored{object{"a": "3", "b": "2", "m": object{"mainInput": "z"}}, map[string]string{"p": "s"}})
	open, passwords, _ := shownValues(inputs, v)
	if diff := cmp.Diff(object{"a": "3"}, open); diff != "" || passwords != nil {
		t.Errorf("shownValues = %v (-want +got):\n%s", passwords, diff)
	}
	open, passwords, _ = shownValues(all, v)
	if diff := cmp.Diff(object{"a": "3", "b": "2", "m": object{"mainInput": "z"}}, open); diff != "" || !slices.Equal(passwords, []string{"p"}) {
		t.Errorf("shownValues = %v (-want +got):\n%s", passwords, diff)
	}
	// What is shown is the caller's.
	open["m"].(object)["mainInput"] = "changed"
	if got := v.Open["m"].(object)["mainInput"]; got != "z" {
		t.Errorf("a change of what was shown reached what is stored: %v", got)
	}

	// A text that becomes a password is not shown, and neither is a password that becomes a text.
	inputs = []Input{{ID: "b", Type: InputPassword, Required: true}, {ID: "p", Type: InputText, Required: true}}
	open, passwords, missing := shownValues(inputs, v)
	if len(open) > 0 || passwords != nil || !slices.Equal(missing, []string{"b", "p"}) {
		t.Errorf("shownValues(types swapped) = %v, %v, %v, want both missing", open, passwords, missing)
	}
	merge(v, object{"b": "secret", "p": "text"}, stored{
		object{"a": "3", "m": object{"mainInput": "z"}, "p": "text"}, map[string]string{"b": "secret"},
	})
}

func TestMergeValues_Size(t *testing.T) {
	t.Parallel()
	var inputs []Input
	for i := range 5 {
		inputs = append(inputs, Input{ID: fmt.Sprintf("t%d", i), Type: InputTextArea}, Input{ID: fmt.Sprintf("p%d", i), Type: InputPassword})
	}
	half := strings.Repeat("x", 60<<10)
	v, err := mergeValues("settings", inputs, values{}, object{"t0": half, "t1": half})
	if err != nil {
		t.Fatal(err)
	}
	_, err = mergeValues("settings", inputs, v, object{"t2": half[:10<<10]})
	wantField(t, "mergeValues(130 KiB)", err, "settings")
	_, err = mergeValues("settings", inputs, v, object{"p0": half[:7<<10], "p1": half[:7<<10]})
	wantField(t, "mergeValues(134 KiB with passwords)", err, "settings")
	if _, err = mergeValues("settings", inputs, v, object{"t2": half, "t0": nil}); err != nil {
		t.Errorf("mergeValues(one for another) = %v, want nil", err)
	}

	// What is not declared any more gives way, but only where it has to.
	inputs = inputs[2:] // t0 and p0 go
	v.Secrets = map[string]crypto.Secret{"p0": crypto.NewSecret("x")}
	got, err := mergeValues("settings", inputs, v, object{"t2": "x"})
	if err != nil || got.Open["t0"] != half || got.Secrets["p0"].IsZero() {
		t.Errorf("mergeValues(a little more) = %v, want what is no longer declared to stay", err)
	}
	got, err = mergeValues("settings", inputs, v, object{"t2": half})
	if _, left := got.Open["t0"]; err != nil || left || len(got.Open) != 2 || len(got.Secrets) != 0 {
		t.Errorf("mergeValues(much more) = %v, want what is no longer declared to go", err)
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
	for name, v := range map[string]values{
		"numbers": {Open: numbers}, "texts": {Open: texts}, "secrets": {Secrets: secrets}, "nested": {Open: nested},
	} {
		open, err := cbor.Marshal(v.Open)
		if err != nil {
			t.Fatal(err)
		}
		passwords, err := cbor.Marshal(v.revealed().Secrets)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.size(), len(open)+len(passwords); got < want || got > 2*want {
			t.Errorf("size of %s = %d, want from %d, which is what it takes, to twice that", name, got, want)
		}
	}
}

func TestShownValues_Required(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typ          InputType
		name         string
		value, byDef any
		missing      bool
		want         any
	}{
		{InputText, "nothing", nil, nil, true, nil},
		{InputText, "text", "x", nil, false, "x"},
		{InputText, "empty", "", nil, true, ""},
		{InputText, "default", nil, "d", false, "d"},
		{InputText, "empty hides no default", "", "d", false, "d"},
		{InputText, "empty default", nil, "", true, ""},
		{InputTextArea, "empty", "", nil, true, ""},
		{InputNumber, "0", 0, nil, false, 0.0},
		{InputNumber, "default", nil, 5, false, 5.0},
		{InputEmail, "empty", "", nil, true, nil},
		{InputBoolean, "false", false, nil, false, false},
		{InputBoolean, "false over a default", false, true, false, false},
		{InputSwitch, "nothing", nil, nil, true, nil},
		{InputPermission, "true", true, nil, false, true},
		{InputPermission, "false", false, nil, true, false},
		{InputCombo, "both", object{"mainInput": "a", "dependentInput": "b"}, nil, false, object{"mainInput": "a", "dependentInput": "b"}},
		{InputCombo, "half", object{"mainInput": "a"}, nil, true, object{"mainInput": "a"}},
		{InputCombo, "the other half", object{"dependentInput": "a"}, nil, true, object{"dependentInput": "a"}},
		{InputCombo, "half of a default", object{"mainInput": "a"}, object{"mainInput": "d", "dependentInput": "e"}, false, object{"mainInput": "d", "dependentInput": "e"}},
		{InputDynamicCombo, "fields", object{"mainInput": "a", "fieldMappings": object{"L": "f"}}, nil, false, object{"mainInput": "a", "fieldMappings": object{"L": "f"}}},
		{InputDynamicCombo, "empty fields", object{"mainInput": "a", "fieldMappings": object{"L": ""}}, nil, true, object{"mainInput": "a", "fieldMappings": object{"L": ""}}},
		{InputFieldMapper, "object", object{"objectMapping": "Contact"}, nil, false, object{"objectMapping": "Contact"}},
		{InputFieldMapper, "field", object{"fieldMappings": object{"L": "f"}}, nil, false, object{"fieldMappings": object{"L": "f"}}},
		{InputFieldMapper, "dynamic", object{"dynamicMappings": object{"k": object{"integrationField": "i"}}}, nil, false, object{"dynamicMappings": object{"k": object{"integrationField": "i"}}}},
		{InputFieldMapper, "nothing mapped", object{"dynamicMappings": object{"k": object{"applicationField": "a"}}, "mappingType": "DYNAMIC"}, nil, true, object{"dynamicMappings": object{"k": object{"applicationField": "a"}}, "mappingType": "DYNAMIC"}},
		{InputFile, "file", object{"name": "a", "data": "AA=="}, nil, false, object{"name": "a", "data": "AA=="}},
		{InputFile, "empty file", object{"name": "a", "data": ""}, nil, true, object{"name": "a", "data": ""}},
		{InputPassword, "nothing", nil, nil, true, nil},
		{InputPassword, "password", "x", nil, false, nil},
	} {
		inputs, err := checkInputs("settings", []Input{{ID: "i", Type: tt.typ, Default: tt.byDef, Required: true}})
		if err != nil {
			t.Errorf("checkInputs(%s: %s) = %v, want nil", tt.typ, tt.name, err)
			continue
		}
		v, err := mergeValues("settings", inputs, values{}, object{"i": tt.value})
		if err != nil {
			t.Errorf("mergeValues(%s: %s) = %v, want nil", tt.typ, tt.name, err)
			continue
		}
		open, _, missing := shownValues(inputs, v)
		if got := slices.Equal(missing, []string{"i"}); got != tt.missing {
			t.Errorf("shownValues(%s: %s) = missing %v, want %t", tt.typ, tt.name, missing, tt.missing)
		}
		if diff := cmp.Diff(tt.want, open["i"]); diff != "" {
			t.Errorf("shownValues(%s: %s) (-want +got):\n%s", tt.typ, tt.name, diff)
		}
		// The same input, not required, is never missing, and shows what was given.
		inputs[0].Required = false
		if _, _, missing := shownValues(inputs, v); missing != nil {
			t.Errorf("shownValues(%s: %s, not required) = missing %v, want none", tt.typ, tt.name, missing)
		}
	}
}

// A declaration that changed since a value was given: what no longer fits it counts as not given.
func TestShownValues_ChangedDeclaration(t *testing.T) {
	t.Parallel()
	v := values{Open: object{"a": "daily", "b": "text", "c": 5.0}, Secrets: map[string]crypto.Secret{"a": crypto.NewSecret("x")}}
	inputs := []Input{
		{ID: "c", Type: InputText, Required: true},
		{ID: "a", Type: InputEnum, Options: []InputOption{{Value: "weekly"}}, Default: "weekly"},
		{ID: "b", Type: InputNumber, Required: true},
		{ID: "d", Type: InputCopyable},
		{ID: "e", Type: "of a later version", Required: true},
	}
	open, passwords, missing := shownValues(inputs, v)
	if diff := cmp.Diff(object{"a": "weekly"}, open); diff != "" || passwords != nil {
		t.Errorf("shownValues = passwords %v (-want +got):\n%s", passwords, diff)
	}
	if diff := cmp.Diff([]string{"c", "b", "e"}, missing); diff != "" {
		t.Errorf("shownValues, missing (-want +got):\n%s", diff)
	}
	if open, _, _ := shownValues(nil, v); open == nil || len(open) > 0 {
		t.Errorf("shownValues(no inputs) = %#v, want an empty map", open)
	}
}

// The default that is shown is a copy.
func TestShownValues_DefaultCopied(t *testing.T) {
	t.Parallel()
	inputs, err := checkInputs("settings", []Input{{ID: "a", Type: InputCombo, Default: object{"mainInput": "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	open, _, _ := shownValues(inputs, values{})
	open["a"].(object)["mainInput"] = "changed"
	if open, _, _ = shownValues(inputs, values{}); open["a"].(object)["mainInput"] != "x" {
		t.Error("a change of what was shown reached the declaration")
	}
}

// FuzzMergeValues: whatever JSON is given, nothing panics, no password is shown, a change made twice is made once, and
// changes of different keys may come in any order.
func FuzzMergeValues(f *testing.F) {
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
	old, err := mergeValues("settings", append(slices.Clone(inputs), Input{ID: "gone", Type: InputText}), values{},
		object{"gone": "x", "text": "old", "password": "old-password", "number": 7})
	if err != nil {
		f.Fatal(err)
	}
	before := old.revealed()
	parse := func(data []byte, numbers bool) (change map[string]any, ok bool) {
		d := json.NewDecoder(strings.NewReader(string(data)))
		if numbers {
			d.UseNumber()
		}
		return change, d.Decode(&change) == nil
	}
	merge := func(t *testing.T, old values, change map[string]any) (values, bool) {
		got, err := mergeValues("settings", inputs, old, change)
		if err != nil && !errors.As(err, new(*InputError)) {
			t.Errorf("mergeValues(%v) = %v, want an InputError", change, err)
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
		if diff := cmp.Diff(before, old.revealed()); diff != "" {
			t.Fatalf("mergeValues(%s) changed what was there:\n%s", first, diff)
		}
		if !ok {
			return
		}
		if v.Open["gone"] != "x" {
			t.Errorf("mergeValues(%s) lost what is not declared any more", first)
		}
		open, passwords, missing := shownValues(inputs, v)
		for _, at := range []map[string]any{open, v.Open} {
			if _, ok := at["password"]; ok {
				t.Errorf("mergeValues(%s) put a password among the open values", first)
			}
		}
		if _, set := v.Secrets["password"]; set != (len(passwords) == 1) || missing != nil {
			t.Errorf("shownValues(%s) = passwords %v, missing %v, want what is set, and none", first, passwords, missing)
		}
		again, ok := merge(t, v, a)
		if diff := cmp.Diff(v.revealed(), again.revealed()); !ok || diff != "" {
			t.Errorf("mergeValues(%s), twice (-once +twice):\n%s", first, diff)
		}
		// What is shown can be given back: front ends send whole documents.
		back, ok := merge(t, v, open)
		if diff := cmp.Diff(v.revealed(), back.revealed()); !ok || diff != "" {
			t.Errorf("mergeValues(what is shown of %s) (-before +after):\n%s", first, diff)
		}
		if encoded, err := cbor.Marshal(v.revealed()); err != nil || len(encoded) > v.size()+64 {
			t.Errorf("%s takes %d bytes, %v, want no more than the %d that are counted", first, len(encoded), err, v.size())
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
		if diff := cmp.Diff(ab.revealed(), ba.revealed()); ok1 != ok2 || diff != "" {
			t.Errorf("mergeValues(%s, %s) = %t in one order and %t in the other:\n%s", first, second, ok1, ok2, diff)
		}
	})
}
