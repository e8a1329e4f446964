package core

import (
	"fmt"
	"maps"
	"slices"

	"github.com/polycred/polycred/crypto"
)

// maxValues limits the values of one configuration together, in bytes as sizeOf counts them.
const maxValues = 128 << 10

// values are what is stored: open ones and passwords apart, so that nothing can read a password back by accident.
type values struct {
	Open    map[string]any           // in normal form
	Secrets map[string]crypto.Secret // of inputs of type password
}

// mergeValues returns old with change applied; neither is touched. A key of change replaces that value, and nil removes
// it. What old holds of inputs that are not declared any more stays, so that an operator can take a mistake back, until
// its room is needed. Errors are of type InputError, name "settings.<id>" and never show a value.
func mergeValues(field string, inputs []Input, old values, change map[string]any) (values, error) {
	declared := make(map[string]*Input, len(inputs))
	for i := range inputs {
		declared[inputs[i].ID] = &inputs[i]
	}
	out := values{Open: map[string]any{}, Secrets: map[string]crypto.Secret{}}
	maps.Copy(out.Open, old.Open)
	maps.Copy(out.Secrets, old.Secrets)
	for _, id := range slices.Sorted(maps.Keys(change)) { // sorted, so that the same mistake gives the same error
		in := declared[id]
		switch {
		case in == nil && !isInputID(id): // not repeated: it may be anything, of any length
			return values{}, invalid(field, "has a key that is no id of an input")
		case in == nil:
			return values{}, invalid(field+"."+id, "is unknown: the integration declares no such input")
		}
		v, err := inputValue(field+"."+id, in, change[id])
		if err != nil {
			return values{}, err
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
		return values{}, invalid(field, fmt.Sprintf("takes more than %d KiB altogether: shorten or remove a value", maxValues>>10))
	}
	return out, nil
}

// shownValues returns what may be read, as copies: values of declared inputs that still fit the declaration, and
// defaults where there is none; no password. Passwords are the ids of those that are set; missing, of the required
// inputs that have neither value nor default. Both are in the order of declaration.
func shownValues(inputs []Input, v values) (open map[string]any, passwords, missing []string) {
	open = make(map[string]any, len(inputs))
	for i := range inputs {
		in := &inputs[i]
		given := false
		switch in.Type {
		case InputPassword:
			if given = !v.Secrets[in.ID].IsZero(); given {
				passwords = append(passwords, in.ID)
			}
		default:
			// Read as if it were given now: the type, or the options, may have changed since. And this makes the copy.
			value, _ := inputValue("", in, v.Open[in.ID])
			if value == nil || in.Required && in.blank(value) {
				if byDefault, _ := inputValue("", in, in.Default); byDefault != nil {
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
func (v values) size() int {
	n := sizeOf(v.Open)
	for id, secret := range v.Secrets {
		n += entrySize + len(id) + len(secret.Reveal())
	}
	return n
}
