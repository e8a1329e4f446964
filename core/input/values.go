package input

import (
	"fmt"
	"maps"
	"slices"

	"github.com/polycred/polycred/crypto"
)

// maxValues limits the values of one configuration together, in bytes as sizeOf counts them.
const maxValues = 128 << 10

// Values are what was given, by Input.ID: open ones and passwords apart, so that nothing can read a password back by
// accident. The zero value holds none. It is for the caller to store; nobody writes to the maps.
type Values struct {
	Open    map[string]any           // in the form that Type describes
	Secrets map[string]crypto.Secret // of inputs of type password
}

// Merge returns old with change applied, for inputs that Check returned; neither is touched. A key of change replaces that
// value, and nil removes it; what is not in change is taken over as it is. What old holds of inputs that are not declared any
// more stays, so that an operator can take a mistake back, until its room is needed. Where one value is wrong, nothing is
// changed: the error is an *Error that names field, with a dot and the input's id where it is about one, and shows no value.
func Merge(field string, inputs []Input, old Values, change map[string]any) (Values, error) {
	declared := make(map[string]*Input, len(inputs))
	for i := range inputs {
		declared[inputs[i].ID] = &inputs[i]
	}
	out := Values{Open: map[string]any{}, Secrets: map[string]crypto.Secret{}}
	maps.Copy(out.Open, old.Open)
	maps.Copy(out.Secrets, old.Secrets)
	for _, id := range slices.Sorted(maps.Keys(change)) { // sorted, so that the same mistake gives the same error
		in := declared[id]
		switch {
		case in == nil && !isID(id): // not repeated: it may be anything, of any length
			return Values{}, invalid(field, "has a key that is no id of an input")
		case in == nil:
			return Values{}, invalid(field+"."+id, "is unknown: the integration declares no such input")
		}
		v, err := valueOf(field+"."+id, in, change[id])
		if err != nil {
			return Values{}, err
		}
		delete(out.Open, id) // from both: the input's type may have changed since
		delete(out.Secrets, id)
		switch v := v.(type) {
		case nil:
		case crypto.Secret:
			out.Secrets[id] = v
		default:
			out.Open[id] = v
		}
	}
	if out.size() > maxValues {
		maps.DeleteFunc(out.Open, func(id string, _ any) bool { return declared[id] == nil })
		maps.DeleteFunc(out.Secrets, func(id string, _ crypto.Secret) bool { return declared[id] == nil })
	}
	if out.size() > maxValues {
		return Values{}, invalid(field, fmt.Sprintf("takes more than %d KiB altogether: shorten or remove a value", maxValues>>10))
	}
	return out, nil
}

// Shown returns what may be read, as copies: values of declared inputs that still fit the declaration, and defaults where
// there is none; no password. Passwords are the ids of those that are set; missing, of the required inputs that have neither
// value nor default. Both are in the order of declaration.
func Shown(inputs []Input, v Values) (open map[string]any, passwords, missing []string) {
	open = make(map[string]any, len(inputs))
	for i := range inputs {
		in := &inputs[i]
		given := false
		switch in.Type {
		case Password:
			if given = !v.Secrets[in.ID].IsZero(); given {
				passwords = append(passwords, in.ID)
			}
		default:
			// Read as if it were given now: the type, or the options, may have changed since. And this makes the copy.
			value, _ := valueOf("", in, v.Open[in.ID])
			if value == nil || in.Required && in.blank(value) {
				if byDefault, _ := valueOf("", in, in.Default); byDefault != nil {
					value = byDefault
				}
			}
			if value != nil {
				open[in.ID] = value
			}
			given = value != nil && !in.blank(value)
		}
		if in.Required && !given {
			missing = append(missing, in.ID)
		}
	}
	return open, passwords, missing
}

// size bounds what the values take up in a record, from above.
func (v Values) size() int {
	n := sizeOf(v.Open)
	for id, secret := range v.Secrets {
		n += entrySize + len(id) + len(secret.Reveal())
	}
	return n
}
