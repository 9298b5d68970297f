from __future__ import annotations

import pytest

from safeupdate.trust import enforcement
from tests.unit.test_trust_modules import CONFIG


@pytest.mark.parametrize(
    ("more", "command_line", "secure_boot", "answer"),
    [
        ({}, "ro quiet", False, False),
        ({}, "ro quiet", True, True),
        ({}, "ro quiet", None, None),
        ({}, "module.sig_enforce", False, True),
        ({}, "module.sig-enforce=1", False, True),
        ({}, "module.sig_enforce=Y", None, True),
        ({}, "module.sig_enforce=0", False, False),
        ({}, "module.sig_enforce=0 lockdown=none", True, True),
        ({}, "init=/sbin/init -- module.sig_enforce", False, False),
        ({}, "lockdown=integrity", False, True),
        ({}, "lockdown=confidentiality", False, True),
        ({}, "lockdown=integrity lockdown=none", False, False),
        ({}, "lockdown=integrity lsm=yama", False, False),
        ({}, "lockdown=integrity lsm=yama,lockdown", False, True),
        ({"CONFIG_LSM": "yama"}, "lockdown=integrity", False, False),
        ({"CONFIG_LSM": "yama"}, "", True, False),
        ({"CONFIG_LSM": "yama", "CONFIG_SECURITY_LOCKDOWN_LSM_EARLY": "y"}, "", True, True),
        ({"CONFIG_SECURITY_LOCKDOWN_LSM": None}, "lockdown=integrity", True, False),
        ({"CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT": None}, "", True, False),
        (
            {
                "CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT": None,
                "CONFIG_IMA_ARCH_POLICY": "y",
                "CONFIG_IMA_SECURE_AND_OR_TRUSTED_BOOT": "y",
            },
            "",
            True,
            True,
        ),
        ({"CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY": "y"}, "", False, True),
        ({"CONFIG_MODULE_SIG_FORCE": "y"}, "", False, True),
        ({"CONFIG_CMDLINE": "module.sig_enforce=1"}, "ro", False, True),
        ({"CONFIG_MODULE_SIG": None}, "module.sig_enforce", True, False),
    ],
)
def test_what_enforces(
    more: dict[str, str | None], command_line: str, secure_boot: bool | None, answer: bool | None
) -> None:
    config = {name: value for name, value in {**CONFIG, **more}.items() if value is not None}
    found = enforcement.of(config, command_line, secure_boot)
    assert found.enforced is answer
    assert found.checked is ("CONFIG_MODULE_SIG" in config)
    assert bool(found.reasons) is (answer is True)


@pytest.mark.parametrize(
    ("command_line", "secure_boot", "answer"),
    [("", False, False), ("", True, None), ("", None, None), ("module.sig_enforce", False, True)],
)
def test_a_configuration_that_is_not_known(command_line: str, secure_boot: bool | None, answer: bool | None) -> None:
    assert enforcement.of(None, command_line, secure_boot).enforced is answer
