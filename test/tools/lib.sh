# shellcheck shell=sh
# lib.sh
#		What the test tools share: packages, the server's files, throw-away servers.
#
# Sourced by the scripts beside it, which have changed to the checkout's top.
# Nothing here touches a server that is not its own: each run has one folder
# ($RUN) with a private copy of the server's programs, its data and its sockets,
# and removes it at the end.

set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES COPT
for name in $(env | sed -n 's/^\(PG[A-Z_]*\)=.*/\1/p'); do
	case $name in PG_CONFIG | PG_TEST_*) ;; *) unset "$name" ;; esac
done
export LC_ALL=C.UTF-8
exec </dev/null

say() { printf '%s\n' "$*"; }

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root or sudo for: $*"
	fi
}

# ---- packages ----

package_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_update() {
	[ -z "${APT_UPDATED:-}" ] || return 0
	as_root apt-get update -q ||
		as_root apt-get -o Acquire::Check-Valid-Until=false update -q ||
		say "warning: apt-get update failed; going on with the lists that are here" >&2
	APT_UPDATED=yes
}

# Install those of these Debian packages that are missing.  A new PostgreSQL
# package must not come with a running cluster: a drop-in file forbids it for as
# long as the installation takes, and the administrator's own file stays as it is.
install_packages() {
	missing=
	for package in "$@"; do
		package_installed "$package" || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || die "cannot install$missing: no apt-get here"
	say "installing$missing"
	apt_update
	dropin=/etc/postgresql-common/createcluster.d/zz_sentient_edge_test.conf
	as_root mkdir -p "${dropin%/*}"
	echo 'create_main_cluster = false' | as_root tee "$dropin" >/dev/null
	status=0
	# shellcheck disable=SC2086
	output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
		--no-install-recommends $missing 2>&1) || status=$?
	as_root rm -f "$dropin"
	[ $status = 0 ] || { say "$output" | tail -n 30 && die "apt-get could not install$missing"; }
}

# ---- the server to build against ----

# libpq-dev has a pg_config too, without the server's headers.
has_server_headers() {
	[ -x "$("$1" --bindir 2>/dev/null)/postgres" ] &&
		[ -f "$("$1" --includedir-server)/postgres.h" ] &&
		[ -f "$("$1" --pgxs)" ]
}

# Set PG_CONFIG and PG_MAJOR: what the caller gave, else what is installed, else
# the distribution's own version, which is installed now.
find_postgres() {
	PG_CONFIG=${PG_CONFIG:-pg_config}
	if ! has_server_headers "$PG_CONFIG"; then
		[ "$PG_CONFIG" = pg_config ] || die "$PG_CONFIG has no server headers"
		apt_update
		version=$(apt-cache depends postgresql |
			sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
		[ -n "$version" ] || die "apt knows no postgresql package; set PG_CONFIG"
		install_packages "postgresql-$version" "postgresql-server-dev-$version"
		PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config
	fi
	PG_CONFIG=$("$PG_CONFIG" --bindir)/pg_config
	PG_MAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	install_packages gcc make libc6-dev libssl-dev perl
	case $PG_CONFIG in
	/usr/lib/postgresql/*)
		install_packages "postgresql-$PG_MAJOR-partman" "postgresql-$PG_MAJOR-pgtap"
		;;
	*)
		for extension in pg_partman pgcrypto btree_gin; do
			[ -f "$("$PG_CONFIG" --sharedir)/extension/$extension.control" ] ||
				die "$PG_CONFIG: extension $extension is not installed there"
		done
		;;
	esac
}

# Everything that test/tools/test needs, the server included.
install_test_packages() {
	find_postgres
	install_packages libipc-run-perl libtap-parser-sourcehandler-pgtap-perl faketime procps \
		pgbouncer libpq-dev util-linux locales
}

# ---- the run's folder ----

# Make RUN and see to it that nothing of the run outlives it.  Servers do not
# run as root: everything in RUN belongs to TEST_USER.
make_run_folder() {
	RUN=$(mktemp -d "/tmp/sentient_edge.XXXXXX")
	trap end_run EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ "$(id -u)" = 0 ]; then
		TEST_USER=nobody
		! id postgres >/dev/null 2>&1 || TEST_USER=postgres
	else
		TEST_USER=$(id -un)
	fi
	mkdir "$RUN/tmp"
	chmod 755 "$RUN"
	export RUN
}

give_run_folder() {
	[ "$(id -u)" != 0 ] || chown -R "$TEST_USER:" "$RUN"
}

# A disk that a test can fill: a small tmpfs, where root may mount one (not in
# every container, and never asked of sudo).  SMALL_DISK is its folder, or empty.
mount_small_disk() {
	SMALL_DISK=
	[ "$(id -u)" = 0 ] || return 0
	mkdir "$RUN/small"
	if mount -t tmpfs -o size=256m,mode=0777 sentient_edge "$RUN/small" 2>/dev/null; then
		SMALL_DISK=$RUN/small
	else
		rmdir "$RUN/small"
	fi
}

# Run a command as the unprivileged user, in the run's environment.
as_test_user() {
	set -- env HOME="$RUN" TMPDIR="$RUN/tmp" "$@"
	if [ "$(id -u)" = 0 ]; then
		runuser -u "$TEST_USER" -- "$@"
	else
		"$@"
	fi
}

end_run() {
	status=$?
	trap - EXIT INT TERM HUP
	folder=$RUN
	unset RUN # from here on no new process is one of the run
	# a server ends at once on SIGQUIT, and removes its shared memory
	for signal in QUIT KILL; do
		for pid in $(run_pids "$folder"); do kill -s $signal "$pid" 2>/dev/null || true; done
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ -n "$(run_pids "$folder")" ] || break 2
			sleep 0.2
		done
	done
	[ -z "${SMALL_DISK:-}" ] || umount "$SMALL_DISK" || umount -l "$SMALL_DISK" || true
	if [ -n "${KEEP_RUN:-}" ]; then
		say "kept: $folder"
	else
		rm -rf "$folder"
	fi
	exit "$status"
}

# Processes of a run: they have it in their environment (this shell itself got it
# too late to show).
run_pids() {
	grep -lzxsF "RUN=$1" /proc/[0-9]*/environ | cut -d / -f 3
}

# Copy the checkout (the unprivileged user may not be able to read it) without
# what a build or git left in it.
copy_source() {
	mkdir -p "$1"
	tar -c --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=./test/fuzz/build --exclude=./test/results . | tar -x -C "$1"
}

# Copy the server's programs, libraries and share files to the same places under
# a folder, and print the copy's pg_config.  PostgreSQL finds its files relative
# to its programs, so the copy is a complete installation: the extension goes
# there and neither needs root nor disturbs what is installed or runs here.
copy_postgres() {
	for what in bindir pkglibdir sharedir; do
		from=$("$1" --$what)
		[ -d "$2$from" ] || { mkdir -p "$2$from" && cp -a "$from/." "$2$from/"; }
	done
	for what in includedir libdir; do
		from=$("$1" --$what)
		[ -e "$2$from" ] || { mkdir -p "$2${from%/*}" && ln -s "$from" "$2$from"; }
	done
	say "$2$("$1" --bindir)/pg_config"
}

# Build the source folder and install it by this pg_config; a log is printed when it fails.
build_and_install() {
	for target in clean all install; do
		as_test_user make -s -C "$1" PG_CONFIG="$2" COPT="${3:-}" -j "$(nproc)" $target \
			>"$RUN/build.log" 2>&1 || { cat "$RUN/build.log" && die "the build failed"; }
	done
}

# Start a server of the run in folder $1 with the extra configuration lines $2;
# clients reach it through PGHOST=$1/socket, and nothing listens on TCP.
start_server() {
	as_test_user mkdir -p "$1/socket"
	as_test_user "$BIN/initdb" -D "$1/data" -A trust -U postgres -E UTF8 --locale=C --no-sync \
		>"$1/initdb.log" 2>&1 || { cat "$1/initdb.log"; die "initdb failed"; }
	as_test_user tee -a "$1/data/postgresql.conf" >/dev/null <<-EOF
		listen_addresses = ''
		unix_socket_directories = '$1/socket'
		shared_preload_libraries = 'sentient_edge'
		max_worker_processes = 24
		$2
	EOF
	as_test_user "$BIN/pg_ctl" -D "$1/data" -l "$1/log" -w start >"$1/start.log" 2>&1 || {
		tail -n 40 "$1/log"
		die "the server did not start"
	}
}
