package core

// Input is one value that a person gives for an account: a setting of a configuration, or part of setting an account up.
type Input struct {
	// ID is the key under which the value is stored: 1 to 64 bytes of letters, digits, '.', '-' and '_'. It never changes.
	ID   string    `json:"id" cbor:"1,keyasint"`
	Type InputType `json:"type" cbor:"2,keyasint"`
	// Title is what people read; empty means ID. Tooltip and Placeholder may be empty.
	Title       string `json:"title,omitempty" cbor:"3,keyasint,omitempty"`
	Tooltip     string `json:"tooltip,omitempty" cbor:"4,keyasint,omitempty"`
	Placeholder string `json:"placeholder,omitempty" cbor:"5,keyasint,omitempty"`
	// Required says that there has to be a value, given or by Default.
	Required bool `json:"required,omitempty" cbor:"6,keyasint,omitempty"`
	// Default is the value where none was given, of the type that Type says; nil means none.
	Default any `json:"default,omitempty" cbor:"7,keyasint,omitempty"`
	// Options are the values of an InputEnum.
	Options []InputOption `json:"options,omitempty" cbor:"8,keyasint,omitempty"`
}

// InputOption is one choice of an InputEnum.
type InputOption struct {
	Value string `json:"value" cbor:"1,keyasint"`
	Label string `json:"label,omitempty" cbor:"2,keyasint,omitempty"` // empty means Value
}

// InputType says what a value is, and how a page asks for it.
type InputType string
