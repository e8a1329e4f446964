package sdktest_test

import (
	"os"
	"strings"
	"testing"
)

// The walk in jsdom, with every address of the client set by overrideEnvs.
func TestJSDOM(t *testing.T) {
	t.Parallel()
	packages(t, false)
	newHouse(t, "http://127.0.0.1:0").drive("jsdom.mjs", nil)
}

// What is committed of the packages are their names, versions and hashes: no address of a registry, and nothing of theirs.
func TestLock(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"package.json", "package-lock.json", ".npmrc"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "://") {
			t.Errorf("%s names an address", file)
		}
	}
}
