// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_disk.hpp"

#include <algorithm>

namespace wherry::tests {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using migrate::Directory;
using migrate::DiskFile;
using migrate::DiskLock;

namespace {

using State = MemoryDisk::State;
using Inode = MemoryDisk::Inode;

std::unexpected<formats::Error> io_error() {
    return fail(ErrorCode::io, "the disk of the test fails here");
}

/// Has `effect` unless the script says otherwise.
template <typename Effect>
Status with_faults(State& state, Effect effect) {
    const DiskFault fault = state.next_fault();
    if (fault == DiskFault::none || fault == DiskFault::after) {
        effect();
    }
    return fault == DiskFault::none ? Status{} : io_error();
}

class MemoryFile final : public DiskFile {
public:
    MemoryFile(std::shared_ptr<State> state, std::shared_ptr<Inode> inode)
        : state_{std::move(state)},
          inode_{std::move(inode)} {}

    Result<std::vector<std::byte>> read_all(std::size_t limit) override {
        if (state_->next_fault() != DiskFault::none) {
            return io_error();
        }
        if (inode_->cached.size() > limit) {
            return fail(ErrorCode::corrupted, "longer than it may be");
        }
        return inode_->cached;
    }

    Status append(std::span<const std::byte> bytes) override {
        const DiskFault fault = state_->next_fault();
        if (fault == DiskFault::halfway) {
            bytes = bytes.first(bytes.size() / 2);
        }
        if (fault != DiskFault::before) {
            inode_->cached.insert(inode_->cached.end(), bytes.begin(), bytes.end());
        }
        return fault == DiskFault::none ? Status{} : io_error();
    }

    Status sync() override {
        auto status = with_faults(*state_, [&] {
            const auto from = static_cast<std::ptrdiff_t>(inode_->clean);
            inode_->durable.resize(inode_->cached.size());
            std::copy(
                inode_->cached.begin() + from,
                inode_->cached.end(),
                inode_->durable.begin() + from);
        });
        inode_->clean = inode_->cached.size();
        return status;
    }

    void write_through() override {}

private:
    std::shared_ptr<State> state_;
    std::shared_ptr<Inode> inode_;
};

class MemoryLock final : public DiskLock {
public:
    explicit MemoryLock(std::shared_ptr<int> held) : held_{std::move(held)} {}

private:
    std::shared_ptr<int> held_;
};

class MemoryDirectory final : public Directory {
public:
    MemoryDirectory(std::shared_ptr<State> state, std::string prefix)
        : state_{std::move(state)},
          prefix_{std::move(prefix)} {}

    Result<std::unique_ptr<DiskFile>> open(std::string_view name) override {
        if (state_->next_fault() != DiskFault::none) {
            return io_error();
        }
        const auto found = state_->cached.find(path_of(name));
        if (found == state_->cached.end()) {
            return fail(ErrorCode::not_found, path_of(name) + " is not there");
        }
        return std::make_unique<MemoryFile>(state_, found->second);
    }

    Result<std::unique_ptr<DiskFile>> create(std::string_view name) override {
        if (state_->cached.contains(path_of(name))) {
            return fail(ErrorCode::already_exists, path_of(name) + " is there");
        }
        auto inode = std::make_shared<Inode>();
        auto made = with_faults(*state_, [&] { state_->cached[path_of(name)] = inode; });
        if (!made) {
            return fail(std::move(made).error());
        }
        return std::make_unique<MemoryFile>(state_, inode);
    }

    Result<std::unique_ptr<DiskLock>> lock(std::string_view name) override {
        auto& held = state_->locks[path_of(name)];
        if (!held.expired()) {
            return fail(ErrorCode::already_exists, path_of(name) + " is locked");
        }
        auto mine = std::make_shared<int>();
        held = mine;
        return std::make_unique<MemoryLock>(std::move(mine));
    }

    Status rename(std::string_view from, std::string_view to) override {
        return with_faults(*state_, [&] {
            auto moved = state_->cached.extract(path_of(from));
            state_->cached[path_of(to)] = std::move(moved.mapped());
        });
    }

    Status rename_to_new(std::string_view from, std::string_view to) override {
        if (state_->cached.contains(path_of(to))) {
            return fail(ErrorCode::already_exists, path_of(to) + " is there");
        }
        return rename(from, to);
    }

    Status link(std::string_view from, std::string_view to) override {
        if (state_->cached.contains(path_of(to))) {
            return fail(ErrorCode::already_exists, path_of(to) + " is there");
        }
        return with_faults(
            *state_, [&] { state_->cached[path_of(to)] = state_->cached.at(path_of(from)); });
    }

    Status remove(std::string_view name) override {
        return with_faults(*state_, [&] { state_->cached.erase(path_of(name)); });
    }

    Status sync() override {
        return with_faults(*state_, [&] { state_->durable = state_->cached; });
    }

    Result<std::vector<std::string>> names() override {
        if (state_->next_fault() != DiskFault::none) {
            return io_error();
        }
        std::vector<std::string> found;
        for (const auto& [path, inode] : state_->cached) {
            if (path.starts_with(prefix_) && path.find('/', prefix_.size()) == path.npos) {
                found.push_back(path.substr(prefix_.size()));
            }
        }
        return found;
    }

    Result<std::unique_ptr<Directory>> enter(std::string_view name, bool is_made) override {
        // A directory is an entry of its own, so that it can be missing.
        const auto marker = path_of(name) + "/";
        if (is_made) {
            auto made = with_faults(*state_, [&] {
                state_->cached.try_emplace(marker, std::make_shared<Inode>());
                state_->durable.try_emplace(marker, std::make_shared<Inode>());
            });
            if (!made) {
                return fail(std::move(made).error());
            }
        }
        if (!state_->cached.contains(marker)) {
            return fail(ErrorCode::not_found, path_of(name) + " is not there");
        }
        return std::make_unique<MemoryDirectory>(state_, marker);
    }

    [[nodiscard]] std::string path_of(std::string_view name) const override {
        return prefix_ + std::string{name};
    }

private:
    std::shared_ptr<State> state_;
    std::string prefix_;
};

} // namespace

DiskFault MemoryDisk::State::next_fault() {
    const auto call = calls++;
    return script ? script(call) : DiskFault::none;
}

MemoryDisk::MemoryDisk() : state_{std::make_shared<State>()} {}

std::shared_ptr<Directory> MemoryDisk::directory() {
    return std::make_shared<MemoryDirectory>(state_, "");
}

void MemoryDisk::set_script(DiskScript script) {
    state_->script = std::move(script);
    state_->calls = 0;
}

void MemoryDisk::lose_power(std::size_t bytes_kept, bool names_kept) {
    auto names = names_kept ? state_->cached : state_->durable;
    for (auto& [path, inode] : names) {
        // Another inode, so that a process of before the power failed does not reach it.
        auto after = std::make_shared<Inode>();
        after->durable = inode->durable;
        const auto from = after->durable.size();
        const auto to = std::min(inode->cached.size(), from + bytes_kept);
        for (auto at = from; at < to; ++at) {
            after->durable.push_back(inode->cached[at]);
        }
        after->cached = after->durable;
        after->clean = after->cached.size();
        inode = after;
    }
    state_->cached = names;
    state_->durable = names;
    state_->locks.clear();
}

std::vector<std::byte>& MemoryDisk::bytes_of(const std::string& name) {
    auto& inode = state_->cached[name];
    if (inode == nullptr) {
        inode = std::make_shared<Inode>();
    }
    return inode->cached;
}

bool MemoryDisk::has(const std::string& name) const {
    return state_->cached.contains(name);
}

} // namespace wherry::tests
