"""Joins an interface and a tap: whatever one receives, the other sends. By tc: an ingress qdisc and a filter that
matches everything with the action mirred redirect. Supervisor; `delete` takes away what a dead supervisor left.

The pod's own stack then receives nothing on that interface any more. Layouts: linux/rtnetlink.h (tcmsg), pkt_cls.h,
tc_act/tc_mirred.h. Standard library only, no dataclasses: `delete` imports this.
"""

import errno
import struct

from katapy.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute, nested, text

_RTM_NEWQDISC, _RTM_DELQDISC = 36, 37
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46
_TC_H_INGRESS = 0xFFFFFFF1
_INGRESS_HANDLE = 0xFFFF0000
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_U32_SEL, _TCA_U32_ACT = 5, 7
_TC_U32_TERMINAL = 1
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_MIRRED_PARMS = 2
_TCA_EGRESS_REDIR = 1
_TC_ACT_STOLEN = 4
_ETH_P_ALL = 0x0003
_PRIORITY = 0x6B61
"""Of katapy's filters: by it they are found again, and told from other people's."""

_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})


def redirect(nl: Netlink, source: int, target: int) -> None:
    """From now on `target` (an interface index) sends what `source` receives. Raises OSError.

    An ingress qdisc that is there already is used; filters before ours stay in force.
    """
    made = _make_qdisc(nl, source)
    try:
        _remove_filter(nl, source)  # of an earlier sandbox whose supervisor was killed
        nl.request(_RTM_NEWTFILTER, _everything_to(source, target), NLM_F_CREATE | NLM_F_EXCL)
    except OSError:
        if made:
            _unless_gone(nl, _RTM_DELQDISC, _ingress(source))
        raise


def _make_qdisc(nl: Netlink, source: int) -> bool:
    """False if it is there already."""
    try:
        nl.request(_RTM_NEWQDISC, _ingress(source), NLM_F_CREATE | NLM_F_EXCL)
    except OSError as e:
        if e.errno != errno.EEXIST:
            raise
        return False
    return True


def _everything_to(source: int, target: int) -> bytes:
    """A filter of `source` that matches without looking at the packet."""
    key = struct.pack("=IIii", 0, 0, 0, 0)
    selector = struct.pack("=BBBBHHhhI", _TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0, 0) + key
    mirred = struct.pack("=IIiiiiI", 0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, target)
    action = nested(1, text(_TCA_ACT_KIND, "mirred"), nested(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, mirred)))
    options = nested(_TCA_OPTIONS, attribute(_TCA_U32_SEL, selector), nested(_TCA_U32_ACT, action))
    return _filter(source) + text(_TCA_KIND, "u32") + options


def undo(nl: Netlink, source: int) -> None:
    """Takes away our filter, and then the qdisc if nothing else hangs on it. What is gone already is fine.

    Raises OSError.
    """
    if _remove_filter(nl, source) and not _has_filters(nl, source):
        _unless_gone(nl, _RTM_DELQDISC, _ingress(source))


def _remove_filter(nl: Netlink, source: int) -> bool:
    """Whether there was one."""
    return _unless_gone(nl, _RTM_DELTFILTER, _filter(source))


def _has_filters(nl: Netlink, source: int) -> bool:
    return bool(nl.dump(_RTM_GETTFILTER, _tcmsg(source, 0, _INGRESS_HANDLE, 0)))


def _unless_gone(nl: Netlink, kind: int, body: bytes) -> bool:
    """False if it was gone."""
    try:
        nl.request(kind, body)
    except OSError as e:
        if e.errno not in _GONE:
            raise
        return False
    return True


def _ingress(index: int) -> bytes:
    return _tcmsg(index, _INGRESS_HANDLE, _TC_H_INGRESS, 0) + text(_TCA_KIND, "ingress")


def _filter(index: int) -> bytes:
    protocol = (_ETH_P_ALL & 0xFF) << 8 | _ETH_P_ALL >> 8  # network order
    return _tcmsg(index, 0, _INGRESS_HANDLE, _PRIORITY << 16 | protocol)


def _tcmsg(index: int, handle: int, parent: int, info: int) -> bytes:
    return struct.pack("=BxxxiIII", 0, index, handle, parent, info)
