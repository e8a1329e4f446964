package sealed

import "errors"

// A key is a tag byte, then each part with 0x00 escaped as 0x00 0xFF and ended by 0x00 0x01. So parts sort as their
// bytes do, a part never runs into the next, and all keys that begin with given parts are one range.

const (
	escape     = 0x00
	escaped    = 0xff
	terminator = 0x01
)

func appendPart(dst []byte, part string) []byte {
	for i := range len(part) {
		if part[i] == escape {
			dst = append(dst, escape, escaped)
			continue
		}
		dst = append(dst, part[i])
	}
	return append(dst, escape, terminator)
}

var errKeyForm = errors.New("not a tuple key")

// splitParts undoes appendPart for every part of a key whose tag was cut off.
func splitParts(key []byte) ([]string, error) {
	var parts []string
	part := make([]byte, 0, len(key))
	for i := 0; i < len(key); i++ {
		if key[i] != escape {
			part = append(part, key[i])
			continue
		}
		i++
		switch {
		case i < len(key) && key[i] == escaped:
			part = append(part, escape)
		case i < len(key) && key[i] == terminator:
			parts = append(parts, string(part))
			part = part[:0]
		default:
			return nil, errKeyForm
		}
	}
	if len(part) > 0 {
		return nil, errKeyForm
	}
	return parts, nil
}
