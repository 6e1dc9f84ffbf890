// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/owner.hpp"
#include "tests/sim/wire.hpp"
#include "tests/sim/world.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace wherry::sim {

/// One side: a process that carries out what its Owner wants, one action after the other, and its
/// disk, which outlives it. What the session of each side does beside is in its subclass.
///
/// Everything the process does is a point at which it can crash, freeze, be cut off or cancelled:
/// before each event, before and after each action, before and after each fsync.
class Process {
public:
    Process(World& world, Wire& wire, Arbiter& arbiter, Where where);
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    virtual ~Process() = default;

    void start(std::unique_ptr<migrate::Owner> owner);
    void crash(const Fault& fault);
    void restart();
    /// Whatever it was doing is due now.
    void thaw();

    /// A person's words; false where they were refused.
    bool resolve(migrate::Keep keep, migrate::Assurance assurance);
    bool salvage();

    [[nodiscard]] bool is_up() const noexcept { return is_up_; }
    [[nodiscard]] bool answers() const noexcept { return is_up_ && !is_frozen_; }
    [[nodiscard]] std::string_view state() const;
    [[nodiscard]] std::string sentence() const { return owner_->status().sentence; }
    [[nodiscard]] const Memory& memory() const noexcept { return memory_; }
    [[nodiscard]] const std::optional<migrate::OwnershipRecord>& disk() const { return disk_; }
    [[nodiscard]] unsigned crashes() const noexcept { return crashes_; }
    void set_other(const Process& process) { other_ = &process; }
    /// A person knows that what is here is older than what ran on a host that is dead now.
    void let_old_memory_run() { old_may_run_ = true; }

protected:
    virtual std::unique_ptr<migrate::Owner> make_owner() = 0;
    virtual void on_arrival(const Parcel& parcel) = 0;
    /// After each event: what the session does of its own accord.
    virtual void on_moved() = 0;
    virtual void on_crash() = 0;
    virtual void on_connected() = 0;
    [[nodiscard]] virtual Parcel parcel_for(migrate::MessageKind message, migrate::Epoch epoch) = 0;
    /// Weakened sides: an event in place of what is due. See weakness.cpp.
    virtual std::optional<migrate::OwnershipEvent>
    instead_of_timer(migrate::action::Timer timer) = 0;

    void feed(const migrate::OwnershipEvent& event);
    /// After `delay`, if this process lives by then; later if it is frozen.
    void later(Duration delay, Clock::Call call);
    /// One more point; false if the process died here.
    bool point();
    [[nodiscard]] bool has(Weakness weakness) const noexcept {
        return world_.schedule.weakness == weakness;
    }
    [[nodiscard]] bool runs() const noexcept { return world_.witness.runs(where_); }
    void note(const std::string& what) { world_.note(name_of(where_), what); }

    World& world_;
    Wire& wire_;
    Arbiter& arbiter_;
    Where where_;
    std::unique_ptr<migrate::Owner> owner_;
    Memory memory_;
    std::optional<migrate::OwnershipRecord> disk_;
    migrate::Attempt attempt_; ///< that the session is at, or was
    bool is_up_ = true;

private:
    void meet(const Fault& fault);
    void add(migrate::OwnershipActions actions);
    void work();
    void carry_out(const migrate::OwnershipAction& action);
    void write(const migrate::OwnershipRecord& record);
    void put_on_disk(const migrate::OwnershipRecord& record);
    void start_guest(const migrate::action::StartGuest& start);
    void ask(const migrate::action::AskArbiter& ask);
    void expire(const migrate::action::Arm& arm);
    void see_state();
    void boot_if_lost();

    const Process* other_ = nullptr;
    std::deque<migrate::OwnershipAction> to_do_;
    bool is_working_ = false;
    bool is_frozen_ = false;
    bool is_a_persons_word_ = false;
    bool old_may_run_ = false;
    std::vector<Clock::Call> frozen_;
    std::uint64_t life_ = 1;
    unsigned points_ = 0;
    unsigned writes_ = 0;
    unsigned starts_ = 0;
    unsigned crashes_ = 0;
    std::string last_state_;
    bool is_booting_ = false;
};

/// Offers the VM as often as the schedule says, and serves what the destination misses.
class SourceProcess final : public Process {
public:
    SourceProcess(World& world, Wire& wire, Arbiter& arbiter, unsigned attempts);
    void begin();
    void offer_no_more() { attempts_left_ = 0; }

private:
    std::unique_ptr<migrate::Owner> make_owner() override;
    void on_arrival(const Parcel& parcel) override;
    void on_moved() override;
    void on_crash() override;
    void on_connected() override {}
    Parcel parcel_for(migrate::MessageKind message, migrate::Epoch epoch) override;
    std::optional<migrate::OwnershipEvent> instead_of_timer(migrate::action::Timer timer) override;

    void try_attempt();
    void stop_guest();
    void push_pages();

    unsigned attempts_left_;
    bool is_attempt_planned_ = false;
    std::array<bool, page_count> sent_{};
};

/// Takes the VM in, and places what comes.
class DestinationProcess final : public Process {
public:
    DestinationProcess(World& world, Wire& wire, Arbiter& arbiter);
    void begin();

private:
    std::unique_ptr<migrate::Owner> make_owner() override;
    void on_arrival(const Parcel& parcel) override;
    void on_moved() override {}
    void on_crash() override { filled_.reset(); }
    void on_connected() override { filled_.reset(); }
    Parcel parcel_for(migrate::MessageKind message, migrate::Epoch epoch) override;
    std::optional<migrate::OwnershipEvent> instead_of_timer(migrate::action::Timer timer) override;

    void load_if_there();
    void place(const Parcel& parcel);

    std::optional<Parcel> filled_; ///< memory and state, as they came
};

} // namespace wherry::sim
