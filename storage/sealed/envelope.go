package sealed

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// envelopeVersion stands before every ciphertext.
const envelopeVersion = 1

var (
	errEnvelope = errors.New("no sealed value of this format")
	errCut      = errors.New("cut short")
)

// The codec is told to pass over MarshalBinary and MarshalText, which crypto.Secret uses to stop every other encoder:
// only here is a secret written, and only into what is sealed next. Map keys are sorted, so that equal records encode
// alike (RFC 8949 §4.2.1).
//
// What a field of type any holds comes back as string, bool, float64, []byte, []any, map[string]any or nil, and what was
// of an integer type as uint64, or int64 below 0. No secret belongs there: it would come back open, as []any of one string.
var (
	encoder = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.BinaryMarshaler = cbor.BinaryMarshalerNone
		o.TextMarshaler = cbor.TextMarshalerNone
		mode, err := o.EncMode()
		if err != nil {
			panic(err) // fixed options
		}
		return mode
	}()
	decoder = newDecoder(cbor.DupMapKeyEnforcedAPF)

	// viewDecoder is for views, which pass over most fields: looking for one that stands there twice would remember each of
	// them. No record has one: encode writes none, and nobody else can seal one.
	viewDecoder = newDecoder(cbor.DupMapKeyQuiet)
)

func newDecoder(twice cbor.DupMapKeyMode) cbor.DecMode {
	mode, err := cbor.DecOptions{
		UTF8:              cbor.UTF8DecodeInvalid, // what a provider sent may be no UTF-8, and was encoded as it is
		DupMapKey:         twice,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		BinaryUnmarshaler: cbor.BinaryUnmarshalerNone,
		TextUnmarshaler:   cbor.TextUnmarshalerNone,
		DefaultMapType:    reflect.TypeFor[map[string]any](), // in an any, as encoding/json has it
	}.DecMode()
	if err != nil {
		panic(err) // fixed options
	}
	return mode
}

// encode writes the format byte and the record that v points to. What could never be read again is not written: what is
// too deep or too long, and, where a record holds an any, a map in it whose keys are no texts.
func encode(format int, v any, holdsAny bool) ([]byte, error) {
	body, err := encoder.Marshal(v)
	switch {
	case err != nil:
	case holdsAny:
		err = decoder.Unmarshal(body, reflect.New(reflect.TypeOf(v).Elem()).Interface())
	default:
		err = decoder.Wellformed(body)
	}
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 1+len(body))
	return append(append(out, byte(format)), body...), nil
}

// holdsAny reports whether a value of type t may hold one of a type that only the value knows.
func holdsAny(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return holdsAny(t.Elem(), seen)
	case reflect.Map:
		return holdsAny(t.Key(), seen) || holdsAny(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsAny(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// decode reads what encode wrote under any format up to the one that is known.
func decode(d cbor.DecMode, table string, known int, plain []byte, v any) error {
	if len(plain) < 2 {
		return errCut
	}
	if format := int(plain[0]); format > known {
		return &FormatError{Table: table, Format: format, Known: known}
	}
	if err := d.Unmarshal(plain[1:], v); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

// ciphertext cuts the envelope's version byte off.
func ciphertext(value []byte) ([]byte, error) {
	switch {
	case len(value) == 0:
		return nil, errCut
	case value[0] != envelopeVersion:
		return nil, errEnvelope
	}
	return value[1:], nil
}
