package input

import (
	"encoding/base64"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/polycred/polycred/crypto"
)

// Limits of one value, in bytes as sizeOf counts them.
const (
	maxSmall = 8 << 10
	maxLarge = 64 << 10
	maxEmail = 254 // RFC 5321 §4.5.3.1.3, without the angle brackets
)

// kind is what a Type says about values.
type kind struct {
	wants string // what a value has to be: "a number"
	limit int
	// is reports whether v, in normal form, is such a value. Nil: the type has no values.
	is func(in *Input, v any) bool
	// given reports whether such a value is enough for a required input. Nil: any but the empty text.
	given     func(v any) bool
	noDefault bool
	// emptyRemoves says that an empty text is no value: forms send it for a field that was cleared.
	emptyRemoves bool
}

var kinds = map[Type]kind{
	Text:     {wants: "a text of one line", limit: maxSmall, is: isLine},
	TextArea: {wants: "a text", limit: maxLarge, is: isText},
	Number:   {wants: "a number", limit: maxSmall, is: func(_ *Input, v any) bool { _, ok := v.(float64); return ok }},
	Email: {
		wants: fmt.Sprintf("one bare e-mail address of at most %d bytes, like ada@example.com", maxEmail),
		limit: maxSmall, is: isEmail, emptyRemoves: true,
	},
	URL: {
		wants: "an http or https URL with a host, without user information, blanks and backslashes, like https://example.com/path",
		limit: maxSmall, is: isURL, emptyRemoves: true,
	},
	Password: {
		wants: "a text that is not empty: leave it out to keep what is stored, or pass null to remove it",
		limit: maxSmall, is: func(_ *Input, v any) bool { s, ok := v.(string); return ok && s != "" }, noDefault: true,
	},
	Boolean:        {wants: "true or false", limit: maxSmall, is: isBool},
	Switch:         {wants: "true or false", limit: maxSmall, is: isBool},
	Enum:           {wants: "one of its options", limit: maxSmall, is: isOption, emptyRemoves: true},
	DynamicEnum:    {wants: "a text of one line", limit: maxSmall, is: isLine, emptyRemoves: true},
	CustomDropdown: {wants: "a text of one line", limit: maxSmall, is: isLine, emptyRemoves: true},
	Combo:          {wants: wantsCombo, limit: maxLarge, is: isCombo, given: comboGiven},
	DynamicCombo:   {wants: wantsCombo, limit: maxLarge, is: isCombo, given: comboGiven},
	FieldMapper: {
		wants: "an object of objectMapping, fieldMappings, dynamicMappings, userCreatedFields and mappingType (STATIC or DYNAMIC), which hold texts",
		limit: maxLarge, is: isFieldMapping, given: fieldMappingGiven,
	},
	Copyable: {wants: "no value: it only shows something", noDefault: true},
	Permission: {
		wants: "true or false", limit: maxSmall, is: isBool, given: func(v any) bool { return v == true }, noDefault: true,
	},
	File: {
		wants: `an object of name and data in base64, and perhaps mimeType, id, size, encoding ("base64") and dataType ("FILE"), all texts`,
		limit: maxLarge, is: isFile, given: func(v any) bool { return textIn(v, "data") != "" }, noDefault: true,
	},
}

const wantsCombo = "an object of mainInput and dependentInput, which are texts, and fieldMappings, an object of texts"

var knownTypes = func() string {
	var names []string
	for t := range kinds {
		names = append(names, string(t))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}()

// valueOf returns v in the form in which it is stored, sharing nothing with v: a crypto.Secret for a password,
// otherwise what encoding/json would decode; nil where v removes the value. Errors name the field and never show v.
func valueOf(field string, in *Input, v any) (any, error) {
	kind := kinds[in.Type]
	if v == nil {
		return nil, nil
	}
	if kind.is == nil {
		return nil, invalid(field, "wants "+kind.wants)
	}
	if secret, ok := v.(crypto.Secret); ok && in.Type == Password {
		v = secret.Reveal()
	}
	v, reason := normal(v, kind.limit)
	switch {
	case reason != "":
		return nil, invalid(field, reason+"; it wants "+kind.wants)
	case kind.emptyRemoves && v == "":
		return nil, nil
	case !kind.is(in, v):
		return nil, invalid(field, "wants "+kind.wants)
	}
	switch v := v.(type) {
	case string:
		if in.Type == Password {
			return crypto.NewSecret(v), nil
		}
	case map[string]any:
		if len(v) == 0 {
			return nil, nil
		}
	}
	return v, nil
}

// blank reports whether a value is not enough for a required input.
func (in *Input) blank(v any) bool {
	if given := kinds[in.Type].given; given != nil {
		return !given(v)
	}
	return v == ""
}

func isText(_ *Input, v any) bool { _, ok := v.(string); return ok }

func isBool(_ *Input, v any) bool { _, ok := v.(bool); return ok }

func isLine(_ *Input, v any) bool {
	s, ok := v.(string)
	return ok && !strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && unicode.IsControl(r) })
}

func isOption(in *Input, v any) bool {
	return slices.ContainsFunc(in.Options, func(o Option) bool { return v == o.Value })
}

func isEmail(_ *Input, v any) bool {
	s, ok := v.(string)
	if !ok || len(s) > maxEmail {
		return false
	}
	address, err := mail.ParseAddress(s)
	return err == nil && address.Address == s // no name, no brackets, no comment
}

func isURL(_ *Input, v any) bool {
	s, ok := v.(string)
	if !ok || strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return !strings.HasSuffix(u.Host, ":")
}

func isCombo(_ *Input, v any) bool {
	return isObject(v, map[string]func(any) bool{"mainInput": anyText, "dependentInput": anyText, "fieldMappings": isTexts})
}

func comboGiven(v any) bool {
	fields, _ := v.(map[string]any)["fieldMappings"].(map[string]any)
	return textIn(v, "mainInput") != "" && (textIn(v, "dependentInput") != "" || hasText(fields))
}

func isFieldMapping(_ *Input, v any) bool {
	return isObject(v, map[string]func(any) bool{
		"objectMapping": anyText,
		"fieldMappings": isTexts,
		"dynamicMappings": func(v any) bool {
			m, ok := v.(map[string]any)
			for _, mapping := range m {
				ok = ok && isObject(mapping, map[string]func(any) bool{"applicationField": anyText, "integrationField": anyText})
			}
			return ok
		},
		"userCreatedFields": func(v any) bool {
			list, ok := v.([]any)
			return ok && !slices.ContainsFunc(list, func(v any) bool { return !anyText(v) })
		},
		"mappingType": func(v any) bool { return v == "STATIC" || v == "DYNAMIC" },
	})
}

func fieldMappingGiven(v any) bool {
	m := v.(map[string]any)
	fields, _ := m["fieldMappings"].(map[string]any)
	dynamic, _ := m["dynamicMappings"].(map[string]any)
	for _, mapping := range dynamic {
		if textIn(mapping, "integrationField") != "" {
			return true
		}
	}
	return textIn(v, "objectMapping") != "" || hasText(fields)
}

func isFile(_ *Input, v any) bool {
	ok := isObject(v, map[string]func(any) bool{
		"name": anyText, "mimeType": anyText, "id": anyText, "size": anyText,
		"data": func(v any) bool {
			s, ok := v.(string)
			_, err := base64.StdEncoding.Strict().DecodeString(s)
			return ok && err == nil && !strings.ContainsAny(s, "\r\n") // which the decoder passes over
		},
		"encoding": func(v any) bool { return v == "base64" },
		"dataType": func(v any) bool { return v == "FILE" },
	})
	if !ok || len(v.(map[string]any)) == 0 {
		return ok
	}
	_, data := v.(map[string]any)["data"]
	return data && textIn(v, "name") != ""
}

// isObject reports whether v is an object with none but the given keys, each holding what its function says.
func isObject(v any, keys map[string]func(any) bool) bool {
	m, ok := v.(map[string]any)
	for key, value := range m {
		is := keys[key]
		ok = ok && is != nil && is(value)
	}
	return ok
}

func anyText(v any) bool { return isText(nil, v) }

func isTexts(v any) bool {
	m, ok := v.(map[string]any)
	for _, value := range m {
		ok = ok && anyText(value)
	}
	return ok
}

// textIn returns the text under a key of an object.
func textIn(v any, key string) string {
	m, _ := v.(map[string]any)
	s, _ := m[key].(string)
	return s
}

func hasText(m map[string]any) bool {
	for key := range m {
		if textIn(m, key) != "" {
			return true
		}
	}
	return false
}
