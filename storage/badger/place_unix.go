//go:build unix && !linux

package badger

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// place joins the device and the inode of the directory.
func place(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d/%d", st.Dev, st.Ino)
}
