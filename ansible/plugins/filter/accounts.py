# Copyright: the authors of varu
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Names of accounts on backup hosts, and who would share one."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import hashlib
import re

from ansible.errors import AnsibleFilterError

# What useradd and varu take.
LONGEST = 32


def account(name):
    """The account of a machine, from its whole name in the inventory: no two names that differ by a domain share one."""
    plain = re.sub(r"[^a-z0-9_-]", "-", name.lower())
    if not re.match(r"[a-z_]", plain):
        plain = "m-" + plain.lstrip("-")
    if len(plain) > LONGEST:
        plain = plain[: LONGEST - 9] + "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return plain


def _logins(host, name):
    """The accounts into which a machine's key is let."""
    readers = [reader["name"] for reader in host.get("varu_client_readers") or []]
    if not host.get("varu_client_sets"):
        return readers
    return [host.get("varu_client_account") or account(name)] + readers


def sharing(hostvars, names, own, logins, backup_host):
    """Who else of these machines would log in as one of `logins` at the same backup host: a text for each."""
    found = []
    for name in names:
        if name == own:
            continue
        host = hostvars[name]
        if (host.get("varu_client_host") or backup_host) != backup_host:
            continue
        if (host.get("varu_client_state") or "present") == "absent":
            continue
        try:
            shared = set(_logins(host, name)) & set(logins)
        except (KeyError, TypeError) as error:
            raise AnsibleFilterError("the variables varu_client_… of %s can't be read: %s" % (name, error)) from error
        found += ["%s is that of %s, too" % (login, name) for login in sorted(shared)]
    return found


class FilterModule(object):
    """Filters of varu.backup."""

    def filters(self):
        return {"account": account, "sharing": sharing}
