// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/partition.hpp"
#include "vmm/partition.hpp"

#include <memory>
#include <string>

namespace wherry::vmm::mshv {

/// A partition that is initialised, frozen in time and without memory, and all that can be known
/// of it; see MshvPartition::open.
formats::Result<std::unique_ptr<PartitionShared>>
bring_up(std::unique_ptr<Syscalls> syscalls, std::string name, const PartitionOptions& options);

} // namespace wherry::vmm::mshv
