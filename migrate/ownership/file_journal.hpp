// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/disk.hpp"
#include "migrate/ownership/journal.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::migrate {

/// A journal in one file of a state directory: formats/JOURNAL.md has the bytes, and how a write or
/// a sync that failed is dealt with.
class FileJournal final : public Journal {
public:
    /// Makes it where there is none. `vm_name` is the VM's name on this host, fit for a file.
    /// Error{already_exists} while another process has it open; {corrupted} where the file is
    /// damaged by more than one write that did not come to its end: it names file, offset and
    /// way out, and nothing is changed.
    static formats::Result<std::unique_ptr<FileJournal>>
    open(std::shared_ptr<Directory> directory, std::string_view vm_name);

    formats::Status append(const JournalEntry& entry) override;
    [[nodiscard]] std::span<const JournalEntry> entries() const noexcept override {
        return entries_;
    }

private:
    FileJournal(
        std::shared_ptr<Directory> directory,
        std::unique_ptr<DiskLock> lock,
        std::string_view vm_name);
    formats::Status add_to_file(std::span<const std::byte> record);
    formats::Status replace_file(std::vector<JournalEntry> with, std::uint64_t last_sequence);

    std::shared_ptr<Directory> directory_;
    std::unique_ptr<DiskLock> lock_;
    std::string file_name_;
    std::vector<JournalEntry> entries_; ///< durable
    std::uint64_t next_sequence_ = 1;
    /// Of which all is durable; empty after a failure, until the file has been replaced.
    std::unique_ptr<DiskFile> file_;
    std::size_t file_size_ = 0;
};

/// What a journal holds, without opening it: for looking at a VM whose process is gone, or whose
/// journal is in use. Empty where there is none. Not for deciding: it need not be durable.
formats::Result<std::vector<JournalEntry>>
look_at_journal(Directory& directory, std::string_view vm_name);

/// The names of the VMs that have a journal here, sorted.
formats::Result<std::vector<std::string>> journals_in(Directory& directory);

} // namespace wherry::migrate
