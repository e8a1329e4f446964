package sdktest_test

import "testing"

// The walk in jsdom, with every address of the client set by overrideEnvs.
func TestJSDOM(t *testing.T) {
	t.Parallel()
	packages(t, false)
	newHouse(t, "http://127.0.0.1:0").drive("jsdom.mjs", nil)
}
