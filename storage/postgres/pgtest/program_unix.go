//go:build unix

package pgtest

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user whom PostgreSQL and PgBouncer run as, since they refuse to run as root: Debian's postgres.
const account = "postgres"

// unprivileged makes cmd run as account where this process is root, and out of reach of the signals that a terminal
// sends to this process.
func unprivileged(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	uid, gid, err := owner()
	if err != nil || uid == os.Getuid() {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// handOver gives a path to the user that the programs run as.
func handOver(path string) error {
	uid, gid, err := owner()
	if err != nil || uid == os.Getuid() {
		return err
	}
	return os.Chown(path, uid, gid)
}

func owner() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup(account)
	if err != nil {
		return 0, 0, err
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, nil
}
