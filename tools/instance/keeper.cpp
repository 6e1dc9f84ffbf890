// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/keeper.hpp"

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ranges>
#include <system_error>
#include <thread>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

namespace wherry::tools {

using formats::Result;
using formats::Status;
using migrate::ArbiterRecord;

namespace {

/// For one question of a shared arbiter: it is asked again.
constexpr std::chrono::seconds arbiter_limit{5};
/// For the last process of a VM of this name, which has given up its name and tells its clients
/// still how the VM's job ended.
constexpr std::chrono::seconds departure_limit{5};
constexpr std::chrono::milliseconds look_every{50};

bool is_in_use(const Result<std::unique_ptr<migrate::FileJournal>>& journal) {
    return !journal && journal.error().code() == formats::ErrorCode::already_exists;
}

std::string environment(const char* name) {
    const char* const value = std::getenv(name); // NOLINT(concurrency-mt-unsafe): nobody sets any
    return value == nullptr ? std::string{} : std::string{value};
}

} // namespace

std::filesystem::path state_directory() {
    if (const auto given = environment("XDG_STATE_HOME"); !given.empty()) {
        return std::filesystem::path{given} / "wherry";
    }
    if (::geteuid() == 0) {
        return "/var/lib/wherry";
    }
    return std::filesystem::path{environment("HOME")} / ".local/state/wherry";
}

InstanceKeeper::InstanceKeeper(std::string vm_name, std::unique_ptr<migrate::FileJournal> journal)
    : vm_name_{std::move(vm_name)},
      journal_{std::move(journal)},
      vm_id_{
          journal_->entries().empty() ? migrate::VmId::make() : journal_->entries().back().vm_id} {}

Result<std::unique_ptr<InstanceKeeper>> InstanceKeeper::open(std::string_view vm_name) {
    const auto path = state_directory();
    std::error_code failed;
    std::filesystem::create_directories(path.parent_path(), failed);
    if (failed) {
        return formats::fail(
            formats::system_error(failed.value(), "making " + path.parent_path().string()));
    }
    auto directory = migrate::open_directory(path, migrate::DirectoryUse::own);
    if (!directory) {
        return formats::fail(std::move(directory).error());
    }
    std::shared_ptr<migrate::Directory> shared = *std::move(directory);
    const auto last_look = std::chrono::steady_clock::now() + departure_limit;
    auto journal = migrate::FileJournal::open(shared, vm_name);
    while (is_in_use(journal) && std::chrono::steady_clock::now() < last_look) {
        std::this_thread::sleep_for(look_every);
        journal = migrate::FileJournal::open(shared, vm_name);
    }
    if (!journal) {
        return formats::fail(std::move(journal).error());
    }
    return std::unique_ptr<InstanceKeeper>{
        new InstanceKeeper{std::string{vm_name}, *std::move(journal)}};
}

void InstanceKeeper::begin(RecordOrigin origin) {
    const std::lock_guard held{journal_mutex_};
    origin_ = std::move(origin);
}

void InstanceKeeper::set_vm_id(const migrate::VmId& id) {
    const std::lock_guard held{journal_mutex_};
    vm_id_ = id;
}

migrate::VmId InstanceKeeper::vm_id() const {
    const std::lock_guard held{journal_mutex_};
    return vm_id_;
}

std::optional<migrate::JournalEntry> InstanceKeeper::last() const {
    const std::lock_guard held{journal_mutex_};
    if (journal_->entries().empty()) {
        return std::nullopt;
    }
    return journal_->entries().back();
}

std::optional<migrate::JournalEntry> InstanceKeeper::arrival() const {
    const std::lock_guard held{journal_mutex_};
    for (const migrate::JournalEntry& entry : journal_->entries() | std::views::reverse) {
        const bool says_so = entry.record.kind == migrate::RecordKind::running ||
                             entry.record.kind == migrate::RecordKind::done;
        if (entry.vm_id == vm_id_ && says_so) {
            return entry;
        }
    }
    return std::nullopt;
}

std::vector<migrate::OwnershipRecord> InstanceKeeper::records_of(const migrate::VmId& vm) const {
    const std::lock_guard held{journal_mutex_};
    std::vector<migrate::OwnershipRecord> records;
    for (const migrate::JournalEntry& entry : journal_->entries()) {
        if (entry.vm_id == vm) {
            records.push_back(entry.record);
        }
    }
    return records;
}

Status InstanceKeeper::write(const migrate::OwnershipRecord& record) {
    const std::lock_guard held{journal_mutex_};
    return journal_->append(migrate::JournalEntry{
        .record = record,
        .vm_id = vm_id_,
        .vm_name = vm_name_,
        .side = origin_.side,
        .peer = origin_.peer,
        .tls_directory = origin_.tls_directory,
        .listens_on = origin_.listens_on,
        .written_at = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now())});
}

Result<std::optional<ArbiterRecord>>
InstanceKeeper::ask(const migrate::action::AskArbiter& question) {
    const auto id = vm_id();
    const std::lock_guard held{arbiter_mutex_};
    if (!arbiter_ || arbiter_name_ != question.arbiter) {
        auto arbiter = migrate::arbiter_from(question.arbiter);
        if (!arbiter) {
            return formats::fail(std::move(arbiter).error());
        }
        arbiter_ = *std::move(arbiter);
        arbiter_name_ = question.arbiter;
    }
    if (!arbiter_) {
        return formats::fail(
            formats::ErrorCode::invalid_argument, "'local' is no arbiter that could be asked");
    }
    if (question.wanted) {
        // Whatever came of it: what is read afterwards counts.
        auto requested = arbiter_->request(id, *question.wanted, question.asker, arbiter_limit);
        if (!requested) {
            return formats::fail(std::move(requested).error());
        }
    }
    return arbiter_->read(id, arbiter_limit);
}

} // namespace wherry::tools
