package core

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Limits of the metadata of a configuration.
const (
	maxMeta   = 16 << 10 // bytes as JSON
	maxChange = 100      // keys in one change
	maxLevels = 8        // levels of maps and lists in a value
)

// mergeMeta returns old with change applied: nil takes a key away.
func mergeMeta(old, change map[string]any) (map[string]any, error) {
	if len(change) > maxChange {
		return nil, invalid("meta", fmt.Sprintf("changes more than %d keys at once", maxChange))
	}
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range change {
		switch {
		case key == "" || len(key) > maxExternalID:
			return nil, invalid("meta", fmt.Sprintf("has an empty key, or one of more than %d bytes", maxExternalID))
		case value == nil:
			delete(merged, key)
		case tooDeep(value, maxLevels):
			return nil, invalid("meta", fmt.Sprintf("has values in more than %d levels", maxLevels))
		default:
			merged[key] = value
		}
	}
	text, err := json.Marshal(merged) // in the form in which it is shown
	switch {
	case err != nil:
		return nil, invalid("meta", "has a value that JSON cannot carry")
	case len(text) > maxMeta:
		return nil, invalid("meta", fmt.Sprintf("has more than %d bytes as JSON", maxMeta))
	}
	var normal map[string]any
	err = json.Unmarshal(text, &normal)
	return normal, err
}

// tooDeep reports whether maps and lists in v go deeper than some levels. What is neither is for JSON to judge.
func tooDeep(v any, levels int) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			if levels == 0 || tooDeep(inner, levels-1) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if levels == 0 || tooDeep(inner, levels-1) {
				return true
			}
		}
	}
	return false
}

// cloneJSON returns a deep copy of values as JSON has them.
func cloneJSON(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	clone := make(map[string]any, len(m))
	for key, value := range m {
		clone[key] = cloneValue(value)
	}
	return clone
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneJSON(v)
	case []any:
		clone := make([]any, len(v))
		for i := range v {
			clone[i] = cloneValue(v[i])
		}
		return clone
	default:
		return v
	}
}
