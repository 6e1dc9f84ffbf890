// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/partition.hpp"
#include "vmm/soft_module_abi.hpp"

#include <memory>

namespace wherry::vmm {

/// Opens a partition of the soft backend, whose module (wherry_soft.so) is loaded on first use
/// from $WHERRY_SOFT_MODULE, the directory of the executable, or ../lib/wherry beside it, in that
/// order, and stays loaded. unsupported, naming the places, where there is none.
formats::Result<std::unique_ptr<Partition>> open_soft_partition(const PartitionOptions& options);

} // namespace wherry::vmm
