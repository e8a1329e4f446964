package usertoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep objects and lists may nest: permissions need four, and decodeValue calls itself.
const maxDepth = 32

var (
	errNotObject = errors.New("is not a JSON object")
	errNotText   = errors.New("holds text that is not valid UTF-8")
	errTwice     = errors.New("names something twice")
	errDeep      = errors.New("is nested too deeply")
)

// decodeObject decodes a JSON object as encoding/json would into an any, except where that is lenient about what two
// readers may read differently: a name that stands twice is refused at every level, where encoding/json takes the last,
// and so is broken UTF-8, which encoding/json replaces, so that different ids would become one.
func decodeObject(data []byte) (map[string]any, error) {
	switch {
	case !utf8.Valid(data):
		return nil, errNotText
	case !json.Valid(data): // Decoder.Token alone would not see what follows the value
		return nil, errNotObject
	case hasLoneSurrogate(data):
		return nil, errNotText
	}
	value, err := decodeValue(json.NewDecoder(bytes.NewReader(data)), 0)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errNotObject
	}
	return object, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil { // a number that no float64 holds
		return nil, errNotObject
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == maxDepth {
		return nil, errDeep
	}
	object, list := map[string]any(nil), []any(nil)
	if delim == '{' {
		object = make(map[string]any)
	} else {
		list = []any{}
	}
	for d.More() {
		name := ""
		if object != nil {
			token, err := d.Token()
			if err != nil {
				return nil, errNotObject
			}
			name, _ = token.(string)
			if _, twice := object[name]; twice {
				return nil, errTwice
			}
		}
		value, err := decodeValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if object != nil {
			object[name] = value
		} else {
			list = append(list, value)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNotObject
	}
	if object != nil {
		return object, nil
	}
	return list, nil
}

// hasLoneSurrogate reports whether valid JSON escapes half a character, which is no text (RFC 8259 §8.2).
func hasLoneSurrogate(data []byte) bool {
	for i := bytes.IndexByte(data, '\\'); i >= 0 && i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++ // what is escaped; valid JSON does not end here
		if data[i] != 'u' {
			continue
		}
		first := hex4(data[i+1:])
		i += 4
		if !utf16.IsSurrogate(first) {
			continue
		}
		if !bytes.HasPrefix(data[i+1:], []byte(`\u`)) ||
			utf16.DecodeRune(first, hex4(data[i+3:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// hex4 is what stands behind \u in valid JSON.
func hex4(data []byte) rune {
	n, err := strconv.ParseUint(string(data[:min(4, len(data))]), 16, 32)
	if err != nil {
		return 0
	}
	return rune(n)
}
