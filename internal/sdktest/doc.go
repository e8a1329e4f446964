// Package sdktest holds only tests: they drive examples/server with the real browser SDK, @useparagon/connect, untouched from
// npm, in jsdom (make test, where Node and its packages are there) and in Chromium (make test-browser).
//
// Both walk the same steps, walk.mjs, through a driver that knows what a page and a window are: jsdom.mjs, browser.mjs. Each
// step looks at what the SDK returned, at what the server stored, and at whose token the provider's API saw.
//
// The packages are pinned by package-lock.json and are not committed: npm ci --ignore-scripts in this directory brings them.
package sdktest
