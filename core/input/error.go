package input

// Error says what is wrong with a declaration or a value, and never shows the value.
type Error struct {
	Field  string // like "settings.2.id" or "settings.folder": the field that was passed in, and what lies below it
	Reason string // what is wrong and what to do: "wants a number"
}

func (e *Error) Error() string { return e.Field + " " + e.Reason }

func invalid(field, reason string) error { return &Error{Field: field, Reason: reason} }
