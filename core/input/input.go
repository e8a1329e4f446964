package input

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of what is declared.
const (
	maxInputs   = 100
	maxID       = 64
	maxOptions  = 1000
	maxTitle    = 1 << 10
	maxDeclared = 96 << 10 // of all inputs of one kind: settings and setup lie in the integration's record
)

// Input is one value that a person gives for an account: a setting of a configuration, or part of setting an account up.
type Input struct {
	// ID is the key under which the value is stored: 1 to 64 bytes of letters, digits, '.', '-' and '_'. It never changes.
	ID   string `json:"id" cbor:"1,keyasint"`
	Type Type   `json:"type" cbor:"2,keyasint"`
	// Title is what people read; empty means ID. Tooltip and Placeholder may be empty. 1 KiB each.
	Title       string `json:"title,omitempty" cbor:"3,keyasint,omitempty"`
	Tooltip     string `json:"tooltip,omitempty" cbor:"4,keyasint,omitempty"`
	Placeholder string `json:"placeholder,omitempty" cbor:"5,keyasint,omitempty"`
	// Required says that there has to be a value, given or by Default. What counts as none stands at each Type.
	Required bool `json:"required,omitempty" cbor:"6,keyasint,omitempty"`
	// Default is the value where none was given, of the type that Type says; nil means none. Everybody who may read the
	// settings reads it, so Password and File have none, and nobody consents by default: neither has Permission.
	Default any `json:"default,omitempty" cbor:"7,keyasint,omitempty"`
	// Options are the values of an Enum, 1 to 1,000 of them; no other type has any.
	Options []Option `json:"options,omitempty" cbor:"8,keyasint,omitempty"`
}

// Option is one choice of an Enum.
type Option struct {
	Value string `json:"value" cbor:"1,keyasint"`                     // not empty, and unlike the others; 1 KiB
	Label string `json:"label,omitempty" cbor:"2,keyasint,omitempty"` // empty means Value
}

// Type says what a value is, and how a page asks for it.
//
// In Go a value may be of any type of the right kind: each number type and json.Number for a number, a map[string]string
// for an object. It is stored and returned as encoding/json would decode it into an any: string, float64, bool,
// map[string]any, []any. Texts are valid UTF-8 without NUL. A value has at most 8 KiB, or 64 KiB where it says so; all
// Values have 128 KiB together.
type Type string

// The types. All keys that an object may have are named; each is optional unless it says otherwise. Nil removes a value,
// and so does what a form sends for a field that was cleared: an object without keys, and the empty text where it can be
// no value, as for an email, url, enum, dynamic_enum or custom_dropdown.
const (
	// Text is a text of one line: no control character but the tab. The empty text is a value too, which hides a
	// default, but no value for a required input; this holds for TextArea as well.
	Text Type = "text"
	// TextArea is a text of any number of lines, up to 64 KiB.
	TextArea Type = "textarea"
	// Number is a finite float64. A whole number that a float64 would round is refused. A text is no number.
	Number Type = "number"
	// Email is one bare address, "ada@example.com" (RFC 5322 §3.4.1), of at most 254 bytes.
	Email Type = "email"
	// URL is an absolute http or https URL with a host, and without user information, blanks and backslashes.
	URL Type = "url"
	// Password is a text that is never read back: only whether there is one. It may have lines, as a private key has,
	// and cannot be empty; nil removes it. A crypto.Secret is taken as well as a string.
	Password Type = "password"
	// Boolean and Switch are true or false, and differ only in how a page shows them. False is a value.
	Boolean Type = "boolean"
	Switch  Type = "switch"
	// Enum is the Value of one of Input.Options.
	Enum Type = "enum"
	// DynamicEnum is a text of one line, chosen from what the account holds; CustomDropdown, from what the
	// application offers. Whether it is among them is not checked here.
	DynamicEnum    Type = "dynamic_enum"
	CustomDropdown Type = "custom_dropdown"
	// Combo and DynamicCombo are an object of up to 64 KiB: a choice, "mainInput", and a second one that depends
	// on it, "dependentInput", both texts; where the choice leads to fields instead, "fieldMappings", an object of texts. A
	// required one needs the first, and one of the others.
	Combo        Type = "combo"
	DynamicCombo Type = "dynamic_combo"
	// FieldMapper is an object of up to 64 KiB that says which field of the provider's stands for which of the
	// application's: "objectMapping", a text, is the provider's object; "fieldMappings", an object of texts, leads from
	// labels to the provider's fields; "dynamicMappings" is an object of objects with the texts "applicationField" and
	// "integrationField"; "userCreatedFields" is a list of texts; "mappingType" is "STATIC" or "DYNAMIC". A required one
	// needs an objectMapping or one mapped field.
	FieldMapper Type = "field_mapper"
	// Copyable is a text to copy. It only shows something: it has no value and cannot be required.
	Copyable Type = "copyable"
	// Permission is true where the person consents. A required one needs true.
	Permission Type = "permission"
	// File is an object of up to 64 KiB as it is given, about 48 KiB of content: "name", not empty, and "data",
	// base64 (RFC 4648 §4, with padding), are always there; "mimeType", "id" and "size" are texts, "encoding" is
	// "base64", "dataType" is "FILE". A file is no secret: it is read back like any other value. A required one needs
	// data that is not empty.
	File Type = "file"
)

// Check checks declarations and returns them with defaults in their normal form, as a copy. They are 100 at most, of 96 KiB
// together. Errors are of type *Error and name what is wrong, beginning with field: "settings.2.id".
func Check(field string, inputs []Input) ([]Input, error) {
	if len(inputs) > maxInputs {
		return nil, invalid(field, fmt.Sprintf("has %d inputs, at most %d are allowed", len(inputs), maxInputs))
	}
	if len(inputs) == 0 {
		return nil, nil
	}
	seen, total := make(map[string]int, len(inputs)), 0
	out := slices.Clone(inputs)
	for i := range out {
		in, name := &out[i], fmt.Sprintf("%s.%d", field, i)
		if err := checkInput(name, in); err != nil {
			return nil, err
		}
		if first, ok := seen[in.ID]; ok {
			return nil, invalid(name+".id", fmt.Sprintf("is the id of %s.%d already", field, first))
		}
		seen[in.ID] = i
		if total += declaredSize(in); total > maxDeclared {
			return nil, invalid(field, fmt.Sprintf("declares more than %d KiB altogether: shorten texts, or load options from the account or the application", maxDeclared>>10))
		}
	}
	return out, nil
}

// Clone returns a copy of declarations with options of their own. Defaults are shared: nobody writes to them.
func Clone(inputs []Input) []Input {
	inputs = slices.Clone(inputs)
	for i := range inputs {
		inputs[i].Options = slices.Clone(inputs[i].Options)
	}
	return inputs
}

// checkInput checks one input, and makes what it shares with the caller its own.
func checkInput(name string, in *Input) error {
	if !isID(in.ID) {
		return invalid(name+".id", "has to be 1 to 64 bytes of letters, digits, '.', '-' and '_'")
	}
	kind, ok := kinds[in.Type]
	if !ok {
		return invalid(name+".type", fmt.Sprintf("is unknown: use one of %s", knownTypes))
	}
	for _, text := range []struct{ field, value string }{
		{".title", in.Title}, {".tooltip", in.Tooltip}, {".placeholder", in.Placeholder},
	} {
		if reason := badTitle(text.value); reason != "" {
			return invalid(name+text.field, reason)
		}
	}
	if in.Required && kind.is == nil {
		return invalid(name+".required", fmt.Sprintf("cannot be set: a %s has no value", in.Type))
	}
	if err := checkOptions(name+".options", in); err != nil {
		return err
	}
	if in.Default == nil {
		return nil
	}
	if kind.noDefault {
		return invalid(name+".default", fmt.Sprintf("cannot be set: a %s has none", in.Type))
	}
	v, err := valueOf(name+".default", in, in.Default)
	if err == nil && v == nil {
		err = invalid(name+".default", "is empty: leave it out")
	}
	in.Default = v
	return err
}

func checkOptions(name string, in *Input) error {
	switch n := len(in.Options); {
	case in.Type != Enum && n > 0:
		return invalid(name, fmt.Sprintf("cannot be set: only an %s has options", Enum))
	case in.Type == Enum && n == 0:
		return invalid(name, fmt.Sprintf("is empty: an %s needs at least one", Enum))
	case n > maxOptions:
		return invalid(name, fmt.Sprintf("has %d options, at most %d are allowed", n, maxOptions))
	}
	seen := make(map[string]int, len(in.Options))
	for i, o := range in.Options {
		value := fmt.Sprintf("%s.%d.value", name, i)
		if reason := badTitle(o.Value); reason != "" {
			return invalid(value, reason)
		}
		if o.Value == "" {
			return invalid(value, "is empty")
		}
		if first, ok := seen[o.Value]; ok {
			return invalid(value, fmt.Sprintf("is the value of option %d already", first))
		}
		seen[o.Value] = i
		if reason := badTitle(o.Label); reason != "" {
			return invalid(fmt.Sprintf("%s.%d.label", name, i), reason)
		}
	}
	in.Options = slices.Clone(in.Options)
	return nil
}

func isID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// badTitle says what is wrong with a text that people read, or nothing.
func badTitle(s string) string {
	switch {
	case len(s) > maxTitle:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxTitle)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsRune(s, 0):
		return "contains a NUL byte"
	}
	return ""
}

// declaredSize is what an input takes up in the integration's record, rounded up.
func declaredSize(in *Input) int {
	n := 40 + len(in.ID) + len(in.Type) + len(in.Title) + len(in.Tooltip) + len(in.Placeholder) + sizeOf(in.Default)
	for _, o := range in.Options {
		n += 9 + len(o.Value) + len(o.Label)
	}
	return n
}
