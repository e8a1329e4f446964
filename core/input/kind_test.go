package input_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
)

// oneOfEach declares an input of each type, called like it.
func oneOfEach(t testing.TB) []input.Input {
	t.Helper()
	var inputs []input.Input
	for _, typ := range allInputTypes {
		in := input.Input{ID: string(typ), Type: typ}
		if typ == input.Enum {
			in.Options = []input.Option{{Value: "daily"}, {Value: "weekly", Label: "Every week"}}
		}
		inputs = append(inputs, in)
	}
	inputs, err := input.Check("settings", inputs)
	if err != nil {
		t.Fatal(err)
	}
	return inputs
}

type refused struct{} // wanted where a value is to be refused

func TestMerge_Types(t *testing.T) {
	t.Parallel()
	type (
		word   string
		digits uint16
		flag   bool
	)
	self := object{}
	self["fieldMappings"] = self
	file := func(size int) object {
		return object{"name": "a.txt", "data": base64.StdEncoding.EncodeToString(make([]byte, size))}
	}
	small, large := strings.Repeat("x", 8<<10), strings.Repeat("x", 64<<10)
	no := refused{}
	inputs := oneOfEach(t)
	for _, tt := range []struct {
		typ        input.Type
		name       string
		give, want any // want nil: nothing is stored
	}{
		{input.Text, "words", "a b, Grüße\t😀", "a b, Grüße\t😀"},
		{input.Text, "empty", "", ""},
		{input.Text, "of a type of its own", word("x"), "x"},
		{input.Text, "8 KiB", small, small},
		{input.Text, "more", small + "x", no},
		{input.Text, "lines", "a\nb", no},
		{input.Text, "a carriage return", "a\rb", no},
		{input.Text, "an escape", "\x1b[31m", no},
		{input.Text, "NUL", "a\x00b", no},
		{input.Text, "not UTF-8", "a\xff", no},
		{input.Text, "number", 1, no},
		{input.Text, "json.Number", json.Number("1"), no},
		{input.Text, "bytes", []byte("x"), no},
		{input.Text, "secret", crypto.NewSecret("x"), no},
		{input.Text, "pointer", new(string), no},
		{input.Text, "object", object{}, no},
		{input.Text, "null", nil, nil},

		{input.TextArea, "lines", "a\r\nb\n", "a\r\nb\n"},
		{input.TextArea, "64 KiB", large, large},
		{input.TextArea, "more", large + "x", no},
		{input.TextArea, "NUL", "\x00", no},
		{input.TextArea, "list of lines", []string{"a"}, no},

		{input.Number, "int", 5, 5.0},
		{input.Number, "of a type of its own", digits(5), 5.0},
		{input.Number, "float64", -0.1, -0.1},
		{input.Number, "float32", float32(0.5), 0.5},
		{input.Number, "0", 0, 0.0},
		{input.Number, "-0", math.Copysign(0, -1), 0.0},
		{input.Number, "json.Number", json.Number("1e3"), 1000.0},
		{input.Number, "json.Number -0", json.Number("-0"), 0.0},
		{input.Number, "2^53", int64(1 << 53), float64(1 << 53)},
		{input.Number, "2^53+1", int64(1<<53 + 1), no},
		{input.Number, "2^63", uint64(1 << 63), float64(1 << 63)},
		{input.Number, "the largest uint64", uint64(math.MaxUint64), no},
		{input.Number, "the largest int64", int64(math.MaxInt64), no},
		{input.Number, "the smallest int64", int64(math.MinInt64), float64(math.MinInt64)},
		{input.Number, "json.Number 2^53+1", json.Number("9007199254740993"), no},
		{input.Number, "json.Number too large", json.Number("1e999"), no},
		{input.Number, "json.Number of many digits", json.Number("1" + strings.Repeat("0", 400)), no},
		{input.Number, "json.Number in hex", json.Number("0x10"), no},
		{input.Number, "json.Number Inf", json.Number("Inf"), no},
		{input.Number, "json.Number null", json.Number("null"), no},
		{input.Number, "json.Number of nothing", json.Number(""), no},
		{input.Number, "json.Number too long", json.Number("0." + small), no},
		{input.Number, "NaN", math.NaN(), no},
		{input.Number, "Inf", math.Inf(1), no},
		{input.Number, "text", "5", no},
		{input.Number, "empty text", "", no},
		{input.Number, "true", true, no},
		{input.Number, "complex", complex(1, 0), no},

		{input.Email, "bare", "ada@example.com", "ada@example.com"},
		{input.Email, "not ASCII", "ada@exämple.com", "ada@exämple.com"},
		{input.Email, "empty", "", nil},
		{input.Email, "with a name", "Ada <ada@example.com>", no},
		{input.Email, "in brackets", "<ada@example.com>", no},
		{input.Email, "two", "ada@example.com, bob@example.com", no},
		{input.Email, "blanks around", " ada@example.com", no},
		{input.Email, "no @", "ada", no},
		{input.Email, "a header", "ada@example.com\r\nBcc: bob@example.com", no},
		{input.Email, "254 bytes", strings.Repeat("a", 242) + "@example.com", strings.Repeat("a", 242) + "@example.com"},
		{input.Email, "255 bytes", strings.Repeat("a", 243) + "@example.com", no},

		{input.URL, "https", "https://example.com:8443/a%20b?q=1#f", "https://example.com:8443/a%20b?q=1#f"},
		{input.URL, "http", "HTTP://[::1]/", "HTTP://[::1]/"},
		{input.URL, "empty", "", nil},
		{input.URL, "no host", "https:///path", no},
		{input.URL, "port only", "https://:443/", no},
		{input.URL, "no port", "https://example.com:/", no},
		{input.URL, "port too large", "https://example.com:65536/", no},
		{input.URL, "relative", "/path", no},
		{input.URL, "no scheme", "//example.com", no},
		{input.URL, "opaque", "https:example.com", no},
		{input.URL, "script", "javascript:alert(1)", no},
		{input.URL, "ftp", "ftp://example.com", no},
		{input.URL, "user", "https://ada@example.com", no},
		{input.URL, "empty user", "https://@example.com", no},
		{input.URL, "password", "https://ada:x@example.com", no},
		{input.URL, "backslash", `https://example.com\@evil.example`, no},
		{input.URL, "backslash in the path", `https://example.com/\evil.example`, no},
		{input.URL, "blank", "https://example.com/a b", no},
		{input.URL, "line", "https://example.com/\n", no},

		{input.Boolean, "true", true, true},
		{input.Boolean, "false", false, false},
		{input.Boolean, "of a type of its own", flag(true), true},
		{input.Boolean, "text", "true", no},
		{input.Boolean, "number", 1, no},
		{input.Switch, "false", false, false},
		{input.Switch, "empty text", "", no},

		{input.Enum, "option", "weekly", "weekly"},
		{input.Enum, "empty", "", nil},
		{input.Enum, "label", "Every week", no},
		{input.Enum, "another case", "Daily", no},
		{input.Enum, "number", 0, no},
		{input.DynamicEnum, "text", "C0123", "C0123"},
		{input.DynamicEnum, "empty", "", nil},
		{input.DynamicEnum, "number", 123, no},
		{input.DynamicEnum, "lines", "a\nb", no},
		{input.CustomDropdown, "text", "x", "x"},
		{input.CustomDropdown, "empty", "", nil},
		{input.CustomDropdown, "list", []any{"x"}, no},

		{input.Combo, "both", object{"mainInput": "a", "dependentInput": "b"}, object{"mainInput": "a", "dependentInput": "b"}},
		{input.Combo, "half", map[string]string{"mainInput": "a"}, object{"mainInput": "a"}},
		{input.Combo, "fields", object{"mainInput": "a", "fieldMappings": map[word]word{"L": "f"}}, object{"mainInput": "a", "fieldMappings": object{"L": "f"}}},
		{input.Combo, "empty", object{}, nil},
		{input.Combo, "nil map", map[string]any(nil), nil},
		{input.Combo, "another key", object{"mainInput": "a", "x": "y"}, no},
		{input.Combo, "number", object{"mainInput": 1}, no},
		{input.Combo, "null inside", object{"mainInput": "a", "dependentInput": nil}, no},
		{input.Combo, "text", "a", no},
		{input.Combo, "list", []any{"a", "b"}, no},
		{input.Combo, "not UTF-8", object{"mainInput": "\xff"}, no},
		{input.Combo, "a key with NUL", object{"fieldMappings": object{"\x00": "x"}}, no},
		{input.Combo, "too large", object{"mainInput": large}, no},
		{input.DynamicCombo, "both", object{"mainInput": "a", "dependentInput": "b"}, object{"mainInput": "a", "dependentInput": "b"}},
		{input.DynamicCombo, "fields are no texts", object{"fieldMappings": object{"L": 1}}, no},

		{
			input.FieldMapper, "static",
			object{"objectMapping": "Contact", "fieldMappings": object{"Name": "FullName", "Mail": ""}, "mappingType": "STATIC"},
			object{"objectMapping": "Contact", "fieldMappings": object{"Name": "FullName", "Mail": ""}, "mappingType": "STATIC"},
		},
		{
			input.FieldMapper, "dynamic",
			object{
				"mappingType": "DYNAMIC", "userCreatedFields": []string{"x"},
				"dynamicMappings": map[string]map[string]string{"k": {"applicationField": "a", "integrationField": "i"}, "l": {}},
			},
			object{
				"mappingType": "DYNAMIC", "userCreatedFields": []any{"x"},
				"dynamicMappings": object{"k": object{"applicationField": "a", "integrationField": "i"}, "l": object{}},
			},
		},
		{input.FieldMapper, "empty", object{}, nil},
		{input.FieldMapper, "another mapping type", object{"mappingType": "static"}, no},
		{input.FieldMapper, "another key", object{"objectMappings": "Contact"}, no},
		{input.FieldMapper, "another key inside", object{"dynamicMappings": object{"k": object{"field": "a"}}}, no},
		{input.FieldMapper, "a text in place of an object", object{"dynamicMappings": object{"k": "a"}}, no},
		{input.FieldMapper, "a list in place of an object", object{"fieldMappings": []any{}}, no},
		{input.FieldMapper, "numbers in a list", object{"userCreatedFields": []int{1}}, no},
		{input.FieldMapper, "null in a list", object{"userCreatedFields": []any{"a", nil}}, no},
		{input.FieldMapper, "a field null", object{"fieldMappings": object{"L": nil}}, no},
		{input.FieldMapper, "too deep", object{"dynamicMappings": object{"k": object{"applicationField": object{"x": object{}}}}}, no},
		{input.FieldMapper, "itself inside", self, no},
		{input.FieldMapper, "many empty texts", object{"userCreatedFields": make([]string, 64<<10/input.EntrySize)}, no},
		{input.FieldMapper, "keys are numbers", map[int]string{1: "x"}, no},
		{input.FieldMapper, "keys are anything", map[any]any{"objectMapping": "x"}, no},
		{input.FieldMapper, "secret inside", object{"objectMapping": crypto.NewSecret("x")}, no},
		{input.FieldMapper, "struct", struct{ ObjectMapping string }{"x"}, no},
		{input.FieldMapper, "function inside", object{"objectMapping": func() {}}, no},

		{input.Copyable, "text", "x", no},
		{input.Copyable, "empty text", "", no},
		{input.Copyable, "null", nil, nil},

		{input.Permission, "true", true, true},
		{input.Permission, "false", false, false},
		{input.Permission, "list of scopes", []string{"a"}, no},

		{input.File, "file", file(3), file(3)},
		{input.File, "empty file", file(0), file(0)},
		{
			input.File, "all of it",
			object{"name": "a", "data": "AA==", "mimeType": "text/plain", "encoding": "base64", "dataType": "FILE", "id": "1", "size": "1"},
			object{"name": "a", "data": "AA==", "mimeType": "text/plain", "encoding": "base64", "dataType": "FILE", "id": "1", "size": "1"},
		},
		{input.File, "48,900 bytes", file(48_900), file(48_900)},
		{input.File, "too large", file(49_200), no},
		{input.File, "nothing", object{}, nil},
		{input.File, "no name", object{"data": "AA=="}, no},
		{input.File, "empty name", object{"name": "", "data": "AA=="}, no},
		{input.File, "no data", object{"name": "a"}, no},
		{input.File, "no base64", object{"name": "a", "data": "A"}, no},
		{input.File, "base64 of URLs", object{"name": "a", "data": "-_-_"}, no},
		{input.File, "base64 in lines", object{"name": "a", "data": "AA\n=="}, no},
		{input.File, "base64 with bits left over", object{"name": "a", "data": "AB=="}, no},
		{input.File, "bytes", object{"name": "a", "data": []byte{0}}, no},
		{input.File, "another encoding", object{"name": "a", "data": "00", "encoding": "hex"}, no},
		{input.File, "another data type", object{"name": "a", "data": "AA==", "dataType": "TEXT"}, no},
		{input.File, "size as a number", object{"name": "a", "data": "AA==", "size": 1}, no},
	} {
		id := string(tt.typ)
		call := fmt.Sprintf("Merge(%s: %s)", tt.typ, tt.name)
		got, err := input.Merge("settings", inputs, input.Values{}, object{id: tt.give})
		want := stored{object{}, map[string]string{}}
		switch tt.want {
		case no:
			wantField(t, call, err, "settings."+id)
			if err != nil && !strings.Contains(err.Error(), input.Wants(tt.typ)) {
				t.Errorf("%s = %v, want it to say what the type wants", call, err)
			}
		default:
			if err != nil {
				t.Errorf("%s = %v, want nil", call, err)
			}
			if tt.want != nil {
				want.Open[id] = tt.want
			}
		}
		if diff := cmp.Diff(want, revealed(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", call, diff)
		}
		open, passwords, missing := input.Shown(inputs, got)
		if diff := cmp.Diff(want.Open, open); diff != "" || passwords != nil || missing != nil {
			t.Errorf("Shown(%s: %s) = %v, %v (-want +got):\n%s", tt.typ, tt.name, passwords, missing, diff)
		}
	}
}

func TestNormal_Depth(t *testing.T) {
	t.Parallel()
	var v any = "x"
	for depth := range 8 {
		got, reason := input.Normal(v, input.MaxSmall)
		if ok := reason == ""; ok != (depth <= 4) || ok && !cmp.Equal(got, v) {
			t.Errorf("normal(%d levels) = %v, %q, want it up to 4 levels", depth, got, reason)
		}
		if v = any([]any{v}); depth%2 == 0 {
			v = object{"k": v.([]any)[0]}
		}
	}
}
