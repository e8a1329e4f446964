package input_test

import (
	"fmt"

	"github.com/polycred/polycred/core/input"
)

// Two changes of the same values, and what may be read of them after each.
func Example() {
	inputs, err := input.Check("settings", []input.Input{
		{ID: "folder", Type: input.Text, Required: true},
		{ID: "days", Type: input.Number, Default: 7},
		{ID: "pin", Type: input.Password},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	var values input.Values
	for _, change := range []map[string]any{
		{"pin": "1234", "days": 14},
		{"folder": "inbox", "days": nil}, // nil: the default again
	} {
		if values, err = input.Merge("settings", inputs, values, change); err != nil {
			fmt.Println(err)
			return
		}
		open, passwords, missing := input.Shown(inputs, values)
		fmt.Println(open, "passwords:", passwords, "missing:", missing)
	}

	_, err = input.Merge("settings", inputs, values, map[string]any{"days": "a week"})
	fmt.Println(err)

	// Output:
	// map[days:14] passwords: [pin] missing: [folder]
	// map[days:7 folder:inbox] passwords: [pin] missing: []
	// settings.days wants a number
}
