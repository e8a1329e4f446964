package crypto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KEKs are the two key-encryption keys of a store: any [tink.AEADWithContext], so a KMS client of Tink fits as it is.
// They are asked when keysets are read or written, never per record.
//
// Tokens opens what acts as a user: credentials, connect sessions, runs. Policy opens what an operator declares:
// integrations and their client secrets, signing keys, policies, and the indexes. One KEK may serve as both. With two,
// who holds only Policy can declare integrations but cannot read a token; Tokens may then be nil.
type KEKs struct {
	Tokens tink.AEADWithContext
	Policy tink.AEADWithContext
}

// LocalKEK is a key-encryption key without a KMS: in a file, or only in memory. It may be used concurrently.
type LocalKEK struct {
	path string
	aead tink.AEAD
}

var _ tink.AEADWithContext = (*LocalKEK)(nil)

var errEmptyKEK = errors.New("this LocalKEK holds no key: it comes from CreateKEK, OpenKEK or NewKEK")

// NewKEK returns a key-encryption key that exists only in memory: for tests. What is sealed under it is lost with it.
func NewKEK() (*LocalKEK, error) {
	kek, _, err := makeKEK()
	return kek, err
}

// CreateKEK makes a new key-encryption key and writes it to path, a file that must not exist yet, readable by its owner
// only (0600). Keep it apart from the store's directory, and keep a copy: without it the store cannot be read.
// Errors wrap ErrKEKFile.
func CreateKEK(path string) (*LocalKEK, error) {
	kek, text, err := makeKEK()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: %s exists already; open it with OpenKEK, or choose another path", ErrKEKFile, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKEKFile, err)
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path) // half a key must not look like one
		return nil, fmt.Errorf("%w: %w", ErrKEKFile, err)
	}
	if kek.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKEKFile, err)
	}
	return kek, nil
}

// syncDir makes a new name in dir last: a store must not outlive its key in a crash.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // a directory cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenKEK reads the key-encryption key at path. A file that others than its owner may read or write is refused, as
// is one that is no KEK; errors wrap ErrKEKFile and, for a missing file, os.ErrNotExist. Where an orchestrator mounts
// secrets readable by a group, have it set the owner and mode 0400, or copy the file before the program starts.
func OpenKEK(path string) (*LocalKEK, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w; CreateKEK makes one, for a new store only", ErrKEKFile, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKEKFile, err)
	}
	if !info.Mode().IsRegular() || info.Size() > 64<<10 {
		return nil, fmt.Errorf("%w: %s is not a file that CreateKEK wrote", ErrKEKFile, path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%w: %s has mode %04o and can be used by others than its owner; run chmod 600 on it", ErrKEKFile, path, mode)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKEKFile, err)
	}
	kek, err := readKEK(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a file that CreateKEK wrote", ErrKEKFile, path)
	}
	if kek.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKEKFile, err)
	}
	return kek, nil
}

// Path returns the absolute path of the KEK's file, or "" for one that exists only in memory.
func (k *LocalKEK) Path() string { return k.path }

// EncryptWithContext wraps a keyset; it is called by Tink.
func (k *LocalKEK) EncryptWithContext(_ context.Context, plaintext, associated []byte) ([]byte, error) {
	if k == nil || k.aead == nil {
		return nil, errEmptyKEK
	}
	return k.aead.Encrypt(plaintext, associated)
}

// DecryptWithContext unwraps a keyset; it is called by Tink.
func (k *LocalKEK) DecryptWithContext(_ context.Context, ciphertext, associated []byte) ([]byte, error) {
	if k == nil || k.aead == nil {
		return nil, errEmptyKEK
	}
	return k.aead.Decrypt(ciphertext, associated)
}

// The file is Tink's own JSON form of a keyset, so that Tink's tools can read and rotate it.

func makeKEK() (*LocalKEK, []byte, error) {
	handle, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, nil, fmt.Errorf("make key-encryption key: %w", err)
	}
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, nil, fmt.Errorf("make key-encryption key: %w", err)
	}
	text.WriteByte('\n')
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, nil, fmt.Errorf("make key-encryption key: %w", err)
	}
	return &LocalKEK{aead: primitive}, text.Bytes(), nil
}

func readKEK(text []byte) (*LocalKEK, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	return &LocalKEK{aead: primitive}, nil
}
