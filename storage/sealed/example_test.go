package sealed_test

import (
	"context"
	"fmt"
	"log"

	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
	"github.com/polycred/polycred/storage/sealed"
)

type account struct {
	Name  string        `cbor:"1,keyasint"`
	Token crypto.Secret `cbor:"2,keyasint"`
}

func Example() {
	ctx := context.Background()
	kek, err := crypto.NewKEK() // crypto.OpenKEK or a KMS, outside of examples
	if err != nil {
		log.Fatal(err)
	}
	db, err := sealed.Open(ctx, memory.New(), crypto.KEKs{Tokens: kek, Policy: kek}, "", nil)
	if err != nil {
		log.Fatal(err)
	}
	accounts := sealed.NewTable[account](db, sealed.Spec{Tag: 'a', Name: "account", Plane: sealed.Tokens, Format: 1})
	byProvider := sealed.NewIndex(db, 'b', "accounts by provider")

	tx := db.Begin(ctx)
	accounts.Put(tx, &account{Name: "Ada", Token: crypto.NewSecret("gho_16C7e42F292c")}, 0, "user-1", "1")
	byProvider.Mark(tx, "github", "1", "user-1")
	if err := tx.Commit(ctx); err != nil {
		log.Fatal(err)
	}

	a, rev, err := accounts.Get(ctx, "user-1", "1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", a)

	// An update names the revision that was read; who comes later with the same one loses.
	for _, name := range []string{"Ada Lovelace", "Countess"} {
		a.Name = name
		tx := db.Begin(ctx)
		accounts.Put(tx, &a, rev, "user-1", "1")
		err := tx.Commit(ctx)
		fmt.Println(name, err == nil, accounts.Conflicted(err, "user-1", "1"))
	}
	entries, more, err := byProvider.Scan(ctx, []string{"github"}, nil, 10)
	fmt.Println(entries, more, err)
	// Output:
	// {Name:Ada Token:[secret]}
	// Ada Lovelace true false
	// Countess false true
	// [[github 1 user-1]] false <nil>
}

// A key is added, promoted when every process has loaded it, and used from then on; what older keys sealed still opens.
func ExampleDB_AddKey() {
	ctx := context.Background()
	kek, err := crypto.NewKEK()
	if err != nil {
		log.Fatal(err)
	}
	db, err := sealed.Open(ctx, memory.New(), crypto.KEKs{Tokens: kek, Policy: kek}, "", nil)
	if err != nil {
		log.Fatal(err)
	}
	id, err := db.AddKey(ctx, sealed.Tokens)
	if err != nil {
		log.Fatal(err)
	}
	// … two times CacheTTL later:
	fmt.Println(db.PromoteKey(ctx, sealed.Tokens, id))
	// Output: <nil>
}
