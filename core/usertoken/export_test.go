package usertoken

// ParseKeySet lets a test look at a JWK set without a server, and says how many keys count.
func ParseKeySet(body []byte) (int, error) {
	keys, err := parseKeySet(body)
	return len(keys), err
}

// DecodeObject lets a test compare decoding with encoding/json.
func DecodeObject(data []byte) (map[string]any, error) { return decodeObject(data) }
