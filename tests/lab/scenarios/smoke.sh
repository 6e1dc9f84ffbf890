#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The lab host has a working KVM.
exec kvm_check
