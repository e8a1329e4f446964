package core

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/polycred/polycred/crypto"
)

// oneOfEach declares an input of each type, called like it.
func oneOfEach(t testing.TB) []Input {
	t.Helper()
	var inputs []Input
	for _, typ := range allInputTypes {
		in := Input{ID: string(typ), Type: typ}
		if typ == InputEnum {
			in.Options = []InputOption{{Value: "daily"}, {Value: "weekly", Label: "Every week"}}
		}
		inputs = append(inputs, in)
	}
	inputs, err := checkInputs("settings", inputs)
	if err != nil {
		t.Fatal(err)
	}
	return inputs
}

type refused struct{} // wanted where a value is to be refused

func TestMergeValues_Types(t *testing.T) {
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
		typ        InputType
		name       string
		give, want any // want nil: nothing is stored
	}{
		{InputText, "words", "a b, Grüße\t😀", "a b, Grüße\t😀"},
		{InputText, "empty", "", ""},
		{InputText, "of a type of its own", word("x"), "x"},
		{InputText, "8 KiB", small, small},
		{InputText, "more", small + "x", no},
		{InputText, "lines", "a\nb", no},
		{InputText, "a carriage return", "a\rb", no},
		{InputText, "an escape", "\x1b[31m", no},
		{InputText, "NUL", "a\x00b", no},
		{InputText, "not UTF-8", "a\xff", no},
		{InputText, "number", 1, no},
		{InputText, "json.Number", json.Number("1"), no},
		{InputText, "bytes", []byte("x"), no},
		{InputText, "secret", crypto.NewSecret("x"), no},
		{InputText, "pointer", new(string), no},
		{InputText, "object", object{}, no},
		{InputText, "null", nil, nil},

		{InputTextArea, "lines", "a\r\nb\n", "a\r\nb\n"},
		{InputTextArea, "64 KiB", large, large},
		{InputTextArea, "more", large + "x", no},
		{InputTextArea, "NUL", "\x00", no},
		{InputTextArea, "list of lines", []string{"a"}, no},

		{InputNumber, "int", 5, 5.0},
		{InputNumber, "of a type of its own", digits(5), 5.0},
		{InputNumber, "float64", -0.1, -0.1},
		{InputNumber, "float32", float32(0.5), 0.5},
		{InputNumber, "0", 0, 0.0},
		{InputNumber, "-0", math.Copysign(0, -1), 0.0},
		{InputNumber, "json.Number", json.Number("1e3"), 1000.0},
		{InputNumber, "json.Number -0", json.Number("-0"), 0.0},
		{InputNumber, "2^53", int64(1 << 53), float64(1 << 53)},
		{InputNumber, "2^53+1", int64(1<<53 + 1), no},
		{InputNumber, "2^63", uint64(1 << 63), float64(1 << 63)},
		{InputNumber, "the largest uint64", uint64(math.MaxUint64), no},
		{InputNumber, "the largest int64", int64(math.MaxInt64), no},
		{InputNumber, "the smallest int64", int64(math.MinInt64), float64(math.MinInt64)},
		{InputNumber, "json.Number 2^53+1", json.Number("9007199254740993"), no},
		{InputNumber, "json.Number too large", json.Number("1e999"), no},
		{InputNumber, "json.Number of many digits", json.Number("1" + strings.Repeat("0", 400)), no},
		{InputNumber, "json.Number in hex", json.Number("0x10"), no},
		{InputNumber, "json.Number Inf", json.Number("Inf"), no},
		{InputNumber, "json.Number null", json.Number("null"), no},
		{InputNumber, "json.Number of nothing", json.Number(""), no},
		{InputNumber, "json.Number too long", json.Number("0." + small), no},
		{InputNumber, "NaN", math.NaN(), no},
		{InputNumber, "Inf", math.Inf(1), no},
		{InputNumber, "text", "5", no},
		{InputNumber, "empty text", "", no},
		{InputNumber, "true", true, no},
		{InputNumber, "complex", complex(1, 0), no},

		{InputEmail, "bare", "ada@example.com", "ada@example.com"},
		{InputEmail, "not ASCII", "ada@exämple.com", "ada@exämple.com"},
		{InputEmail, "empty", "", nil},
		{InputEmail, "with a name", "Ada <ada@example.com>", no},
		{InputEmail, "in brackets", "<ada@example.com>", no},
		{InputEmail, "two", "ada@example.com, bob@example.com", no},
		{InputEmail, "blanks around", " ada@example.com", no},
		{InputEmail, "no @", "ada", no},
		{InputEmail, "a header", "ada@example.com\r\nBcc: bob@example.com", no},
		{InputEmail, "254 bytes", strings.Repeat("a", 242) + "@example.com", strings.Repeat("a", 242) + "@example.com"},
		{InputEmail, "255 bytes", strings.Repeat("a", 243) + "@example.com", no},

		{InputURL, "https", "https://example.com:8443/a%20b?q=1#f", "https://example.com:8443/a%20b?q=1#f"},
		{InputURL, "http", "HTTP://[::1]/", "HTTP://[::1]/"},
		{InputURL, "empty", "", nil},
		{InputURL, "no host", "https:///path", no},
		{InputURL, "port only", "https://:443/", no},
		{InputURL, "no port", "https://example.com:/", no},
		{InputURL, "port too large", "https://example.com:65536/", no},
		{InputURL, "relative", "/path", no},
		{InputURL, "no scheme", "//example.com", no},
		{InputURL, "opaque", "https:example.com", no},
		{InputURL, "script", "javascript:alert(1)", no},
		{InputURL, "ftp", "ftp://example.com", no},
		{InputURL, "user", "https://ada@example.com", no},
		{InputURL, "empty user", "https://@example.com", no},
		{InputURL, "password", "https://ada:x@example.com", no},
		{InputURL, "backslash", `https://example.com\@evil.example`, no},
		{InputURL, "backslash in the path", `https://example.com/\evil.example`, no},
		{InputURL, "blank", "https://example.com/a b", no},
		{InputURL, "line", "https://example.com/\n", no},

		{InputBoolean, "true", true, true},
		{InputBoolean, "false", false, false},
		{InputBoolean, "of a type of its own", flag(true), true},
		{InputBoolean, "text", "true", no},
		{InputBoolean, "number", 1, no},
		{InputSwitch, "false", false, false},
		{InputSwitch, "empty text", "", no},

		{InputEnum, "option", "weekly", "weekly"},
		{InputEnum, "empty", "", nil},
		{InputEnum, "label", "Every week", no},
		{InputEnum, "another case", "Daily", no},
		{InputEnum, "number", 0, no},
		{InputDynamicEnum, "text", "C0123", "C0123"},
		{InputDynamicEnum, "empty", "", nil},
		{InputDynamicEnum, "number", 123, no},
		{InputDynamicEnum, "lines", "a\nb", no},
		{InputCustomDropdown, "text", "x", "x"},
		{InputCustomDropdown, "empty", "", nil},
		{InputCustomDropdown, "list", []any{"x"}, no},

		{InputCombo, "both", object{"mainInput": "a", "dependentInput": "b"}, object{"mainInput": "a", "dependentInput": "b"}},
		{InputCombo, "half", map[string]string{"mainInput": "a"}, object{"mainInput": "a"}},
		{InputCombo, "fields", object{"mainInput": "a", "fieldMappings": map[word]word{"L": "f"}}, object{"mainInput": "a", "fieldMappings": object{"L": "f"}}},
		{InputCombo, "empty", object{}, nil},
		{InputCombo, "nil map", map[string]any(nil), nil},
		{InputCombo, "another key", object{"mainInput": "a", "x": "y"}, no},
		{InputCombo, "number", object{"mainInput": 1}, no},
		{InputCombo, "null inside", object{"mainInput": "a", "dependentInput": nil}, no},
		{InputCombo, "text", "a", no},
		{InputCombo, "list", []any{"a", "b"}, no},
		{InputCombo, "not UTF-8", object{"mainInput": "\xff"}, no},
		{InputCombo, "a key with NUL", object{"fieldMappings": object{"\x00": "x"}}, no},
		{InputCombo, "too large", object{"mainInput": large}, no},
		{InputDynamicCombo, "both", object{"mainInput": "a", "dependentInput": "b"}, object{"mainInput": "a", "dependentInput": "b"}},
		{InputDynamicCombo, "fields are no texts", object{"fieldMappings": object{"L": 1}}, no},

		{
			InputFieldMapper, "static",
			object{"objectMapping": "Contact", "fieldMappings": object{"Name": "FullName", "Mail": ""}, "mappingType": "STATIC"},
			object{"objectMapping": "Contact", "fieldMappings": object{"Name": "FullName", "Mail": ""}, "mappingType": "STATIC"},
		},
		{
			InputFieldMapper, "dynamic",
			object{
				"mappingType": "DYNAMIC", "userCreatedFields": []string{"x"},
				"dynamicMappings": map[string]map[string]string{"k": {"applicationField": "a", "integrationField": "i"}, "l": {}},
			},
			object{
				"mappingType": "DYNAMIC", "userCreatedFields": []any{"x"},
				"dynamicMappings": object{"k": object{"applicationField": "a", "integrationField": "i"}, "l": object{}},
			},
		},
		{InputFieldMapper, "empty", object{}, nil},
		{InputFieldMapper, "another mapping type", object{"mappingType": "static"}, no},
		{InputFieldMapper, "another key", object{"objectMappings": "Contact"}, no},
		{InputFieldMapper, "another key inside", object{"dynamicMappings": object{"k": object{"field": "a"}}}, no},
		{InputFieldMapper, "a text in place of an object", object{"dynamicMappings": object{"k": "a"}}, no},
		{InputFieldMapper, "a list in place of an object", object{"fieldMappings": []any{}}, no},
		{InputFieldMapper, "numbers in a list", object{"userCreatedFields": []int{1}}, no},
		{InputFieldMapper, "null in a list", object{"userCreatedFields": []any{"a", nil}}, no},
		{InputFieldMapper, "a field null", object{"fieldMappings": object{"L": nil}}, no},
		{InputFieldMapper, "too deep", object{"dynamicMappings": object{"k": object{"applicationField": object{"x": object{}}}}}, no},
		{InputFieldMapper, "itself inside", self, no},
		{InputFieldMapper, "many empty texts", object{"userCreatedFields": make([]string, 64<<10/entrySize)}, no},
		{InputFieldMapper, "keys are numbers", map[int]string{1: "x"}, no},
		{InputFieldMapper, "keys are anything", map[any]any{"objectMapping": "x"}, no},
		{InputFieldMapper, "secret inside", object{"objectMapping": crypto.NewSecret("x")}, no},
		{InputFieldMapper, "struct", struct{ ObjectMapping string }{"x"}, no},
		{InputFieldMapper, "function inside", object{"objectMapping": func() {}}, no},

		{InputCopyable, "text", "x", no},
		{InputCopyable, "empty text", "", no},
		{InputCopyable, "null", nil, nil},

		{InputPermission, "true", true, true},
		{InputPermission, "false", false, false},
		{InputPermission, "list of scopes", []string{"a"}, no},

		{InputFile, "file", file(3), file(3)},
		{InputFile, "empty file", file(0), file(0)},
		{
			InputFile, "all of it",
			object{"name": "a", "data": "AA==", "mimeType": "text/plain", "encoding": "base64", "dataType": "FILE", "id": "1", "size": "1"},
			object{"name": "a", "data": "AA==", "mimeType": "text/plain", "encoding": "base64", "dataType": "FILE", "id": "1", "size": "1"},
		},
		{InputFile, "48,900 bytes", file(48_900), file(48_900)},
		{InputFile, "too large", file(49_200), no},
		{InputFile, "nothing", object{}, nil},
		{InputFile, "no name", object{"data": "AA=="}, no},
		{InputFile, "empty name", object{"name": "", "data": "AA=="}, no},
		{InputFile, "no data", object{"name": "a"}, no},
		{InputFile, "no base64", object{"name": "a", "data": "A"}, no},
		{InputFile, "base64 of URLs", object{"name": "a", "data": "-_-_"}, no},
		{InputFile, "base64 in lines", object{"name": "a", "data": "AA\n=="}, no},
		{InputFile, "base64 with bits left over", object{"name": "a", "data": "AB=="}, no},
		{InputFile, "bytes", object{"name": "a", "data": []byte{0}}, no},
		{InputFile, "another encoding", object{"name": "a", "data": "00", "encoding": "hex"}, no},
		{InputFile, "another data type", object{"name": "a", "data": "AA==", "dataType": "TEXT"}, no},
		{InputFile, "size as a number", object{"name": "a", "data": "AA==", "size": 1}, no},
	} {
		id := string(tt.typ)
		call := fmt.Sprintf("mergeValues(%s: %s)", tt.typ, tt.name)
		got, err := mergeValues("settings", inputs, values{}, object{id: tt.give})
		want := stored{object{}, map[string]string{}}
		switch tt.want {
		case no:
			wantField(t, call, err, "settings."+id)
			if err != nil && !strings.Contains(err.Error(), inputKinds[tt.typ].wants) {
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
		if diff := cmp.Diff(want, got.revealed()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", call, diff)
		}
		open, passwords, missing := shownValues(inputs, got)
		if diff := cmp.Diff(want.Open, open); diff != "" || passwords != nil || missing != nil {
			t.Errorf("shownValues(%s: %s) = %v, %v (-want +got):\n%s", tt.typ, tt.name, passwords, missing, diff)
		}
	}
}

func TestNormal_Depth(t *testing.T) {
	t.Parallel()
	var v any = "x"
	for depth := range 8 {
		got, reason := normal(v, maxSmall)
		if ok := reason == ""; ok != (depth <= 4) || ok && !cmp.Equal(got, v) {
			t.Errorf("normal(%d levels) = %v, %q, want it up to 4 levels", depth, got, reason)
		}
		if v = any([]any{v}); depth%2 == 0 {
			v = object{"k": v.([]any)[0]}
		}
	}
}
