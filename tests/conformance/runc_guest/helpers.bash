# What runc's tests load in the suite runc-guest: their own helpers, but a cgroup's files are read in the container, where katapy's
# limits are, and not on the host. A guest has cgroup v2. Read by bats, which runs the tests on the host.

source "$RUNC_HELPERS"

# Without the freezer: the tests of it freeze cgroups of the host, and are part of the suite runc.
function init_cgroup_paths() {
	CGROUP_V2=yes
	CGROUP_BASE_PATH=/sys/fs/cgroup
	CGROUP_SUBSYSTEMS="cpuset cpu io memory hugetlb pids devices"
}

function get_cgroup_value() {
	__runc exec "$(__runc list -q)" cat "/sys/fs/cgroup/$1"
}

# crun 1.21 has the formula that runc 1.3.6 no longer uses.
function check_cpu_shares() {
	check_cpu_weight $((1 + ($1 - 2) * 9999 / 262142))
}

# The cgroup's folder on the host has been made by v1's rules, if at all.
function remove_parent() {
	find /sys/fs/cgroup -depth -type d -path '*/runc-cgroups-integration-test*' -exec rmdir {} +
	unset REL_PARENT_PATH
}

eval "$(declare -f requires | sed '1s/requires/requires_of_the_host/')"

# What a guest has, whatever the host's cgroups show. cgroup_delegation asks for systemd because runc delegates to it alone.
function requires() {
	local wanted
	for wanted in "$@"; do
		case $wanted in
		systemd | cgroups_swap | cgroups_cpu_burst | cgroups_cpu_idle | cgroups_io_weight) ;;
		*) requires_of_the_host "$wanted" ;;
		esac
	done
}
