package input

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// entrySize is counted for each element of an object or a list beside the bytes of texts and keys: no less than what
	// CBOR puts before a key and its value, or a number takes.
	entrySize = 12
	maxDepth  = 4 // objects and lists within each other
)

// normal returns v as encoding/json would decode it into an any, sharing nothing with v, or says what is wrong with it
// in words that show nothing of it. More than limit bytes, as sizeOf counts them, are not even looked at.
func normal(v any, limit int) (plain any, reason string) {
	n := normaliser{limit: limit, left: limit}
	return n.value(reflect.ValueOf(v), 1)
}

// sizeOf returns the bytes that are counted for a value in normal form.
func sizeOf(v any) int {
	n := 0
	switch v := v.(type) {
	case string:
		n = len(v)
	case []any:
		for _, element := range v {
			n += entrySize + sizeOf(element)
		}
	case map[string]any:
		for key, element := range v {
			n += entrySize + len(key) + sizeOf(element)
		}
	}
	return n
}

type normaliser struct{ limit, left int }

// spend takes size bytes from what is left, or says that it is not enough.
func (n *normaliser) spend(size int) (reason string) {
	if n.left -= size; n.left < 0 {
		return fmt.Sprintf("is too large: at most %d KiB are allowed", n.limit>>10)
	}
	return ""
}

func (n *normaliser) value(v reflect.Value, depth int) (any, string) {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil, "contains null"
	}
	if v.Type() == reflect.TypeFor[json.Number]() {
		return n.number(v.String())
	}
	switch v.Kind() {
	case reflect.String:
		return n.text(v.String())
	case reflect.Bool:
		return v.Bool(), ""
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return whole(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return whole(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float32, reflect.Float64:
		return finite(v.Float())
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return n.list(v, depth)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			return n.object(v, depth)
		}
	}
	return nil, fmt.Sprintf("contains a Go %s, which JSON has no value for", v.Type())
}

func (n *normaliser) text(s string) (any, string) {
	if reason := n.spend(len(s)); reason != "" {
		return nil, reason
	}
	switch {
	case !utf8.ValidString(s):
		return nil, "contains a text that is not valid UTF-8"
	case strings.ContainsRune(s, 0):
		return nil, "contains a NUL byte"
	}
	return strings.Clone(s), "" // not a part of the request that it came in
}

func (n *normaliser) list(v reflect.Value, depth int) (any, string) {
	if reason := n.nest(v.Len(), depth); reason != "" {
		return nil, reason
	}
	out := make([]any, v.Len())
	for i := range out {
		element, reason := n.value(v.Index(i), depth+1)
		if reason != "" {
			return nil, reason
		}
		out[i] = element
	}
	return out, ""
}

func (n *normaliser) object(v reflect.Value, depth int) (any, string) {
	if reason := n.nest(v.Len(), depth); reason != "" {
		return nil, reason
	}
	out := make(map[string]any, v.Len())
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys { // sorted, so that the same mistake gives the same error
		key, reason := n.text(k.String())
		if reason != "" {
			return nil, reason
		}
		element, reason := n.value(v.MapIndex(k), depth+1)
		if reason != "" {
			return nil, reason
		}
		out[key.(string)] = element
	}
	return out, ""
}

// nest enters an object or list; a value that contains itself ends here.
func (n *normaliser) nest(length, depth int) (reason string) {
	if depth > maxDepth {
		return fmt.Sprintf("is nested too deep: at most %d levels are allowed", maxDepth)
	}
	return n.spend(length * entrySize)
}

func (n *normaliser) number(s string) (any, string) {
	if reason := n.spend(len(s)); reason != "" {
		return nil, reason
	}
	if !json.Valid([]byte(s)) { // a json.Number is only a string, and ParseFloat reads more than JSON has
		return nil, "contains a json.Number that is no number"
	}
	if !strings.ContainsAny(s, ".eE") {
		return whole(s)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, "contains a number that is too large, or none"
	}
	return finite(f)
}

// whole returns a whole number in decimal digits as a float64 that stands for exactly it.
func whole(s string) (any, string) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, "contains a number that is too large, or none"
	}
	if strconv.FormatFloat(f, 'f', 0, 64) != s {
		return nil, "contains a whole number of more digits than a number keeps"
	}
	return finite(f)
}

func finite(f float64) (any, string) {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, "contains a number that is not finite"
	case f == 0:
		return 0.0, "" // not -0, which JSON and people cannot tell apart
	}
	return f, ""
}
