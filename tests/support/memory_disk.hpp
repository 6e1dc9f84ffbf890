// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/disk.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace wherry::tests {

/// What one call to a MemoryDisk comes to: it is told its kind and how many came before it.
enum class DiskFault : std::uint8_t {
    none,
    before, ///< an Error, and nothing happened; a sync: what was to be written is lost, unnoticed
    after,  ///< an Error, and all the same it happened
    halfway ///< append: an Error, and half of the bytes are there. Else like `before`
};
using DiskScript = std::function<DiskFault(std::uint64_t call)>;

/// A directory whose names and bytes are in a page cache and on a disk, as Linux has them: a sync
/// that fails leaves the cache as it is and calls it clean. Directories handed out share it.
class MemoryDisk {
public:
    MemoryDisk();
    /// As a process sees it; locks belong to it.
    [[nodiscard]] std::shared_ptr<migrate::Directory> directory();
    void set_script(DiskScript script);
    /// Power fails: what is not on the disk is lost. Of each file's bytes that were not synced
    /// `bytes_kept` are there nevertheless, and names as they were in the cache if `names_kept`.
    void lose_power(std::size_t bytes_kept, bool names_kept);
    /// What reads see; made where there is none. For damaging it.
    std::vector<std::byte>& bytes_of(const std::string& name);
    [[nodiscard]] bool has(const std::string& name) const;

    struct Inode {
        std::vector<std::byte> cached;
        std::vector<std::byte> durable;
        std::size_t clean = 0; ///< bytes from the beginning that no sync will write any more
    };
    struct State {
        std::map<std::string, std::shared_ptr<Inode>, std::less<>> cached;
        std::map<std::string, std::shared_ptr<Inode>, std::less<>> durable;
        std::map<std::string, std::weak_ptr<int>, std::less<>> locks;
        DiskScript script;
        std::uint64_t calls = 0;
        DiskFault next_fault();
    };

private:
    std::shared_ptr<State> state_;
};

} // namespace wherry::tests
