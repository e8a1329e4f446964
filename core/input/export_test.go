package input

// What tests compare with.
const (
	EntrySize = entrySize
	MaxSmall  = maxSmall
)

// DeclaredSize is what is counted for a declaration, Normal makes the normal form of a value.
var (
	DeclaredSize = declaredSize
	Normal       = normal
)

// Known is how many types there are.
func Known() int { return len(kinds) }

// Wants is what an error says that a type wants.
func Wants(t Type) string { return kinds[t].wants }

// Size is what is counted for values.
func (v Values) Size() int { return v.size() }
