package permission

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// object is a JSON object with all its members, in the order in which they stand, also those that stand twice.
type object []member

type member struct {
	key   string
	value any
}

// maxDepth is how deep a document may be nested to be read at all: more than any valid one is, so that most of those that
// are not get an error that names the place.
const maxDepth = 8

// readJSON makes the tree of a document that is JSON: an object, or a text that holds one.
func readJSON(raw []byte, b *builder) (*node, *Error) {
	most := maxSize
	if len(raw) > 0 && raw[0] == '"' { // of a text that holds an object, the object counts; its quotes are escaped
		most = 2*maxSize + 2
	}
	if len(raw) > most {
		return nil, b.tooLarge()
	}
	document, problem := decode(raw)
	if problem != "" {
		return nil, b.fail("", "%s", problem)
	}
	if text, ok := document.(string); ok {
		return readText(text, b)
	}
	return b.root(document)
}

// readText makes the tree of a document that is a text with an object in JSON, not one with a text again.
func readText(text string, b *builder) (*node, *Error) {
	if len(text) > maxSize {
		return nil, b.tooLarge()
	}
	document, problem := decode([]byte(text))
	if problem != "" {
		return nil, b.fail("", "%s", problem)
	}
	return b.root(document)
}

// decode reads a JSON value as encoding/json does, but with objects as they stand.
func decode(raw []byte) (v any, problem string) {
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, wantsDocument + ", not an empty text"
	case !utf8.Valid(raw):
		return nil, "the document is not valid UTF-8"
	case !json.Valid(raw): // so that the decoder below meets no errors
		return nil, "the document is not valid JSON"
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, ok := decodeValue(d, 0)
	if !ok {
		return nil, "the document is nested too deep"
	}
	return v, ""
}

// decodeValue reads the next value; ok is false when it is nested too deep.
func decodeValue(d *json.Decoder, depth int) (v any, ok bool) {
	token, err := d.Token()
	if err != nil || depth > maxDepth {
		return nil, false
	}
	switch token {
	case json.Delim('{'):
		o := object{}
		for d.More() {
			key, err := d.Token()
			name, isText := key.(string)
			if err != nil || !isText {
				return nil, false
			}
			value, ok := decodeValue(d, depth+1)
			if !ok {
				return nil, false
			}
			o = append(o, member{name, value})
		}
		v = o
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, ok := decodeValue(d, depth+1)
			if !ok {
				return nil, false
			}
			list = append(list, value)
		}
		v = list
	default:
		return token, true
	}
	_, err = d.Token() // the closing bracket
	return v, err == nil
}
