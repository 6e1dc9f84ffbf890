// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/file_arbiter.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::string_view marker = "wherry-arbiter";
constexpr std::size_t text_limit = 256;

std::string file_of(std::uint64_t revision) {
    return fmt::format("{:06}", revision);
}

/// 0 for a name that file_of() does not write.
std::uint64_t revision_of(std::string_view name) {
    std::uint64_t revision = 0;
    std::from_chars(name.data(), name.data() + name.size(), revision);
    return file_of(revision) == name ? revision : 0;
}

/// Of the last change; 0 where there is none.
Result<std::uint64_t> last_revision(Directory& directory) {
    auto names = directory.names();
    if (!names) {
        return fail(std::move(names).error());
    }
    std::uint64_t last = 0;
    for (const auto& name : *names) {
        last = std::max(last, revision_of(name));
    }
    // A listing that is made while files come need not have the newest.
    for (;;) {
        const auto next = directory.open(file_of(last + 1));
        if (!next && next.error().code() == ErrorCode::not_found) {
            return last;
        }
        if (!next) {
            return fail(next.error());
        }
        ++last;
    }
}

Result<ArbiterRecord> read_record(Directory& directory, std::uint64_t revision) {
    auto file = directory.open(file_of(revision));
    auto bytes = file ? (*file)->read_all(text_limit) : fail(std::move(file).error());
    if (!bytes) {
        return fail(std::move(bytes).error());
    }
    const std::string text{reinterpret_cast<const char*>(bytes->data()), bytes->size()};
    auto record = record_from_arbiter_text(text);
    if (!record) {
        return fail(
            ErrorCode::corrupted,
            fmt::format(
                "{}: {}; learn from both hosts who has the VM (wherry status), then remove it",
                directory.path_of(file_of(revision)),
                record.error().text()));
    }
    return record;
}

/// A file with `text` that is on the disk, under a name that nobody else uses.
Result<std::string> write_aside(Directory& directory, std::string_view text) {
    const auto name = ".new-" + VmId::make().to_string();
    auto file = directory.create(name);
    if (!file) {
        return fail(std::move(file).error());
    }
    auto status = (*file)->append(std::as_bytes(std::span{text}));
    status = status ? (*file)->sync() : status;
    if (!status) {
        return fail(std::move(status).error());
    }
    return name;
}

} // namespace

FileArbiter::FileArbiter(std::filesystem::path directory)
    : FileArbiter{directory, [directory] {
                      return migrate::open_directory(directory, DirectoryUse::shared);
                  }} {}

FileArbiter::FileArbiter(std::filesystem::path directory, Opener open)
    : directory_{std::move(directory)},
      open_{std::move(open)} {}

Status FileArbiter::prepare(const std::filesystem::path& path) {
    std::error_code problem;
    std::filesystem::create_directories(path, problem);
    if (problem) {
        return fail(formats::system_error(problem.value(), path.string()));
    }
    auto directory = migrate::open_directory(path, DirectoryUse::shared);
    if (!directory) {
        return fail(std::move(directory).error());
    }
    const auto made = (*directory)->create(marker);
    if (!made && made.error().code() != ErrorCode::already_exists) {
        return fail(made.error());
    }
    return (*directory)->sync();
}

Result<std::unique_ptr<Directory>> FileArbiter::open_directory() const {
    const auto is_no_arbiter = [this](std::string_view why) {
        return fail(
            ErrorCode::not_found,
            fmt::format(
                "{0} {1}: mount what belongs there, or, where it is to become an arbiter, make it "
                "one: wherry arbiter init {0}",
                directory_.string(),
                why));
    };
    auto directory = open_();
    if (!directory && directory.error().code() == ErrorCode::not_found) {
        return is_no_arbiter("is not there");
    }
    if (!directory) {
        return directory;
    }
    // An empty directory may be one that nothing is mounted on: there, no record would mean that
    // the VM was never offered.
    const auto marked = (*directory)->open(marker);
    if (!marked && marked.error().code() == ErrorCode::not_found) {
        return is_no_arbiter(fmt::format("has no file '{}'", marker));
    }
    return marked ? std::move(directory) : fail(marked.error());
}

Result<Arbiter::Seen> FileArbiter::look(const VmId& vm, Deadline /*deadline*/) {
    auto directory = open_directory();
    if (!directory) {
        return fail(std::move(directory).error());
    }
    auto of_vm = (*directory)->enter(vm.to_string(), false);
    if (!of_vm && of_vm.error().code() == ErrorCode::not_found) {
        return Seen{};
    }
    auto revision = of_vm ? last_revision(**of_vm) : fail(std::move(of_vm).error());
    if (!revision) {
        return fail(std::move(revision).error());
    }
    // Who linked it may have died before its sync.
    auto synced = (*of_vm)->sync();
    if (!synced) {
        return fail(std::move(synced).error());
    }
    if (*revision == 0) {
        return Seen{};
    }
    auto record = read_record(**of_vm, *revision);
    if (!record) {
        return fail(std::move(record).error());
    }
    return Seen{.record = *record, .revision = *revision};
}

Result<bool>
FileArbiter::replace(const VmId& vm, const Seen& seen, std::string text, Deadline /*deadline*/) {
    auto directory = open_directory();
    auto of_vm =
        directory ? (*directory)->enter(vm.to_string(), true) : fail(std::move(directory).error());
    auto aside = of_vm ? write_aside(**of_vm, text) : fail(std::move(of_vm).error());
    if (!aside) {
        return fail(std::move(aside).error());
    }
    auto linked = (*of_vm)->link(*aside, file_of(seen.revision + 1));
    auto removed = (*of_vm)->remove(*aside);
    if (!linked && linked.error().code() == ErrorCode::already_exists) {
        return false;
    }
    if (!linked) {
        return fail(std::move(linked).error());
    }
    if (!removed) {
        return fail(std::move(removed).error());
    }
    auto synced = (*of_vm)->sync();
    if (!synced) {
        return fail(std::move(synced).error());
    }
    return true;
}

} // namespace wherry::migrate
