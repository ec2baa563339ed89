# Shell functions that deploy/ and tests/ share. Sourced by bash with `set -euo pipefail`.

# What a build of Bulkhead needs.
build_packages=(gcc libc6-dev cmake ninja-build pkg-config libevent-dev libmsgpack-dev libseccomp-dev libcap-dev zlib1g-dev
	liblzma-dev libiberty-dev)

say() { printf '%s\n' "$*" >&2; }

die() {
	say "${0##*/}: $*"
	exit 1
}

need_root() {
	[[ $EUID -eq 0 ]] || die "needs root: try: sudo $0"
}

# need_packages NAME...: installs what is missing; says nothing and is quick when nothing is.
need_packages() {
	command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
		die "needs Debian's apt to install: $*"
	local name missing=()
	for name; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
	done
	[[ ${#missing[@]} -gt 0 ]] || return 0
	say "installing ${missing[*]}"
	local log
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	# package lists of a fresh machine are empty or old: once more after an update
	if ! apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 &&
		! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get could not install: ${missing[*]}"
	fi
	rm -f "$log"
}

# build DIR [CMAKE-OPTION]...: configures once, builds, shows the end of the log only when it fails.
build() {
	local dir=$1 log
	shift
	mkdir -p "$dir"
	log=$dir/build.log
	{
		cmake -S "$root" -B "$dir" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "$@" &&
			cmake --build "$dir" --parallel "${jobs:-2}"
	} >"$log" 2>&1 || {
		tail -n 40 "$log" >&2
		say "the build in $dir failed; all of it is in $log"
		return 1
	}
}
