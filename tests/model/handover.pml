// SPDX-License-Identifier: Apache-2.0
// The hand-over of a VM and its recovery, for tests/model/check. README.md is the way in.
#include "world.pml"
#include "source.pml"
#include "destination.pml"
#include "operator.pml"
#include "surroundings.pml"
