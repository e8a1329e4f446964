package badger

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// place joins the machine's id, the directory's inode and the time of its making. Device numbers, which would be the
// natural third, are dealt out anew at each boot; without a third, copies in the roots of two volumes, whose inodes
// have fixed numbers, would look the same, above all in containers, which have no machine id.
func place(dir string) string {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_INO == 0 {
		return ""
	}
	name := fmt.Sprintf("%s/%d", machineID(), st.Ino)
	if st.Mask&unix.STATX_BTIME != 0 {
		name += fmt.Sprintf("/%d.%09d", st.Btime.Sec, st.Btime.Nsec)
	}
	return name
}

// machineID returns what identifies the installation, or nothing, as in most containers.
func machineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if id, err := os.ReadFile(path); err == nil {
			if id := strings.TrimSpace(string(id)); id != "" && id != "uninitialized" {
				return id
			}
		}
	}
	return ""
}
