package crypto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/polycred/polycred/crypto"
)

// A key-encryption key in a file, for programs without a KMS. Keep it apart from the store, and keep a copy.
func ExampleCreateKEK() {
	dir, err := os.MkdirTemp("", "polycred")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "polycred.kek")

	if _, err := crypto.CreateKEK(path); err != nil { // once, when the program is set up
		log.Fatal(err)
	}
	kek, err := crypto.OpenKEK(path) // whenever it starts
	if err != nil {
		log.Fatal(err)
	}
	keks := crypto.KEKs{Tokens: kek, Policy: kek}
	fmt.Println(keks.Tokens == keks.Policy)

	_, err = crypto.CreateKEK(path)
	fmt.Println(errors.Is(err, crypto.ErrKEKFile))
	// Output:
	// true
	// true
}

// A keyset is kept wrapped. What it seals opens only under the binding it was sealed for.
func ExampleKeyset() {
	ctx := context.Background()
	kek, err := crypto.NewKEK() // CreateKEK or a KMS, outside of examples
	if err != nil {
		log.Fatal(err)
	}
	made, err := crypto.NewKeyset()
	if err != nil {
		log.Fatal(err)
	}
	wrapped, err := made.Wrap(ctx, kek, []byte("where it is kept"))
	if err != nil {
		log.Fatal(err)
	}

	keyset, err := crypto.UnwrapKeyset(ctx, kek, wrapped, []byte("where it is kept"))
	if err != nil {
		log.Fatal(err)
	}
	binding := crypto.Binding{Table: "credential", Key: []byte("ada"), Rev: 1}.Append(nil)
	sealed, err := keyset.Seal([]byte("the record"), binding)
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := keyset.Open(sealed, binding)
	fmt.Printf("%s %v\n", plaintext, err)

	moved := crypto.Binding{Table: "credential", Key: []byte("eve"), Rev: 1}.Append(nil)
	_, err = keyset.Open(sealed, moved)
	fmt.Println(errors.Is(err, crypto.ErrNotAuthentic))
	// Output:
	// the record <nil>
	// true
}

// To rotate, a key is added, promoted when every process knows it, and the old one removed when nothing is sealed with
// it any more.
func ExampleKeyset_Promote() {
	first, err := crypto.NewKeyset()
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := first.Seal([]byte("the record"), nil)
	if err != nil {
		log.Fatal(err)
	}
	added, id, err := first.Add()
	if err != nil {
		log.Fatal(err)
	}
	promoted, err := added.Promote(id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(promoted.KeyIDs()), promoted.Primary() == id)

	plaintext, err := promoted.Open(sealed, nil)
	fmt.Printf("%s %v\n", plaintext, err)
	// Output:
	// 2 true
	// the record <nil>
}

// Two look-up values have the same token exactly when they are equal, and the token says nothing else.
func ExampleIndex_Lookups() {
	index, err := crypto.NewIndex()
	if err != nil {
		log.Fatal(err)
	}
	stored, err := index.Lookups("external id", "ada@example.com")
	if err != nil {
		log.Fatal(err)
	}
	asked, err := index.Lookups("external id", "ada@example.com")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stored), string(stored[0]) == string(asked[0]))
	// Output: 1 true
}

// A secret is seen only where its text is asked for.
func ExampleSecret() {
	token := crypto.NewSecret("gho_16C7e42F292c6912E7710c838347Ae178B4a")
	fmt.Printf("%s %+v\n", token, struct{ Token crypto.Secret }{token})
	fmt.Println(len(token.Reveal()))

	_, err := json.Marshal(map[string]any{"token": token})
	fmt.Println(err != nil)
	// Output:
	// [secret] {Token:[secret]}
	// 40
	// true
}
