// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/file_journal.hpp"

#include "migrate/ownership/journal_bytes.hpp"

#include <algorithm>
#include <ranges>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::string_view suffix = ".journal";

std::string file_of(std::string_view vm_name) {
    return std::string{vm_name} + std::string{suffix};
}

/// An empty journal where there is no file.
Result<JournalContents> read(Directory& directory, const std::string& name) {
    auto file = directory.open(name);
    if (!file && file.error().code() == ErrorCode::not_found) {
        return JournalContents{};
    }
    auto bytes = file ? (*file)->read_all(journal_file_limit) : fail(std::move(file).error());
    auto contents = bytes ? decode_journal(*bytes) : fail(std::move(bytes).error());
    if (contents || contents.error().code() != ErrorCode::corrupted) {
        return contents ? std::move(contents)
                        : fail(std::move(contents).error().during(directory.path_of(name)));
    }
    return fail(
        ErrorCode::corrupted,
        fmt::format(
            "{}: {}; it cannot say who owns the VM: learn that from the other host "
            "(wherry status there), move this file away, and decide with wherry resolve",
            directory.path_of(name),
            contents.error().text()));
}

struct EncodedFile {
    std::vector<std::byte> bytes;
    std::size_t kept = 0; ///< how many of the entries, from the last one back
};

/// As many of the last entries as history and half of a file have room for; the last one always.
Result<EncodedFile>
encode_file(std::span<const JournalEntry> entries, std::uint64_t last_sequence) {
    std::vector<std::vector<std::byte>> records; // from the last one back
    std::size_t size = journal_header_size;
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        auto record = encode_journal_record(*entry, last_sequence - records.size());
        if (!record) {
            return fail(std::move(record).error());
        }
        size += record->size();
        const bool has_room = records.size() < journal_history && size <= journal_file_limit / 2;
        if (!records.empty() && !has_room) {
            break;
        }
        records.push_back(std::move(*record));
    }
    EncodedFile file{.bytes = journal_header(), .kept = records.size()};
    for (const auto& record : std::views::reverse(records)) {
        file.bytes.insert(file.bytes.end(), record.begin(), record.end());
    }
    return file;
}

} // namespace

FileJournal::FileJournal(
    std::shared_ptr<Directory> directory, std::unique_ptr<DiskLock> lock, std::string_view vm_name)
    : directory_{std::move(directory)},
      lock_{std::move(lock)},
      file_name_{file_of(vm_name)} {}

Result<std::unique_ptr<FileJournal>>
FileJournal::open(std::shared_ptr<Directory> directory, std::string_view vm_name) {
    if (vm_name.empty() || vm_name.front() == '.' || vm_name.find('/') != std::string_view::npos) {
        return fail(
            ErrorCode::invalid_argument, fmt::format("'{}' is not a name for a VM", vm_name));
    }
    auto lock = directory->lock(std::string{vm_name} + ".lock");
    if (!lock && lock.error().code() == ErrorCode::already_exists) {
        return fail(
            ErrorCode::already_exists,
            fmt::format("the journal of VM '{}' is in use by another process", vm_name));
    }
    if (!lock) {
        return fail(std::move(lock).error());
    }
    std::unique_ptr<FileJournal> journal{
        new FileJournal{std::move(directory), std::move(*lock), vm_name}};
    auto contents = read(*journal->directory_, journal->file_name_);
    if (!contents) {
        return fail(std::move(contents).error());
    }
    journal->next_sequence_ = contents->next_sequence;
    // Also where nothing is torn: what was read may be no more than the memory of a process whose
    // sync failed.
    auto replaced =
        journal->replace_file(std::move(contents->entries), contents->next_sequence - 1);
    if (!replaced) {
        return fail(std::move(replaced).error().during(
            fmt::format("cannot make the journal of VM '{}' durable", vm_name)));
    }
    return journal;
}

Status FileJournal::append(const JournalEntry& entry) {
    auto record = encode_journal_record(entry, next_sequence_);
    if (!record) {
        return fail(std::move(record).error());
    }
    auto all = entries_;
    all.push_back(entry);
    if (file_ == nullptr || file_size_ + record->size() > journal_file_limit) {
        auto replaced = replace_file(std::move(all), next_sequence_);
        if (!replaced) {
            return replaced;
        }
    } else {
        auto added = add_to_file(*record);
        if (!added) {
            return added;
        }
        entries_ = std::move(all);
    }
    ++next_sequence_;
    return {};
}

Status FileJournal::add_to_file(std::span<const std::byte> record) {
    // Given up for the time of the attempt: it comes back when all that is in it is durable.
    auto file = std::move(file_);
    auto status = formats::then(file->append(record), [&] { return file->sync(); });
    if (status) {
        file_ = std::move(file);
        file_size_ += record.size();
    }
    return status;
}

Status FileJournal::replace_file(std::vector<JournalEntry> with, std::uint64_t last_sequence) {
    file_.reset();
    auto written = encode_file(with, last_sequence);
    if (!written) {
        return fail(std::move(written).error());
    }
    const auto fresh_name = file_name_ + ".new";
    auto fresh = formats::then(
        directory_->remove(fresh_name), [&] { return directory_->create(fresh_name); });
    if (!fresh) {
        return fail(std::move(fresh).error());
    }
    auto status = (*fresh)->append(written->bytes);
    status = status ? (*fresh)->sync() : status;
    status = status ? directory_->rename(fresh_name, file_name_) : status;
    status = status ? directory_->sync() : status;
    if (!status) {
        return status;
    }
    file_ = std::move(*fresh);
    file_size_ = written->bytes.size();
    with.erase(with.begin(), with.end() - static_cast<std::ptrdiff_t>(written->kept));
    entries_ = std::move(with);
    return {};
}

Result<std::vector<JournalEntry>> look_at_journal(Directory& directory, std::string_view vm_name) {
    auto contents = read(directory, file_of(vm_name));
    if (!contents) {
        return fail(std::move(contents).error());
    }
    return std::move(contents->entries);
}

Result<std::vector<std::string>> journals_in(Directory& directory) {
    auto names = directory.names();
    if (!names) {
        return names;
    }
    std::erase_if(*names, [](const std::string& name) { return !name.ends_with(suffix); });
    for (std::string& name : *names) {
        name.resize(name.size() - suffix.size());
    }
    std::ranges::sort(*names);
    return names;
}

} // namespace wherry::migrate
