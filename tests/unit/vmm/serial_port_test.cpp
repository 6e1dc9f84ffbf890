// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial_port.hpp"

#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/devices/serial_output.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

namespace {

using namespace wherry;
using tests::must;
using vmm::SerialOutput;
using vmm::SerialPort;
using vmm::UniqueFd;

constexpr std::uint64_t data_register = 0;
constexpr std::uint64_t interrupt_enable = 1;
constexpr std::uint64_t interrupt_id = 2;
constexpr std::uint64_t line_control = 3;
constexpr std::uint64_t modem_control = 4;
constexpr std::uint64_t line_status = 5;
constexpr std::uint64_t modem_status = 6;
constexpr std::uint8_t out_2 = 0x08;

class Line final : public vmm::InterruptLine {
public:
    void set_level(bool high) override {
        rises += high && !is_high ? 1 : 0;
        is_high = high;
    }
    std::atomic<bool> is_high = false; // relief comes on the output's own thread
    std::atomic<int> rises = 0;
};

struct Pipe {
    Pipe() {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        reader = UniqueFd{ends[0]};
        writer = UniqueFd{ends[1]};
    }
    std::string read_some(std::size_t most) const {
        std::string text(most, '\0');
        const auto got = ::read(reader.get(), text.data(), text.size());
        REQUIRE(got >= 0);
        text.resize(static_cast<std::size_t>(got));
        return text;
    }
    UniqueFd reader, writer;
};

struct File {
    File() : path{std::filesystem::temp_directory_path() / fmt::format("serial.{}", ::getpid())} {}
    ~File() {
        std::error_code ignored;
        std::filesystem::remove(path, ignored);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    std::string text() const {
        std::ifstream in{path};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    std::string target() const { return "file:" + path.string(); }
    std::filesystem::path path;
};

/// The registers as a driver sees them.
struct Driver {
    explicit Driver(SerialPort& driven) : port{driven} {}
    std::uint8_t in(std::uint64_t offset) {
        std::array<std::byte, 1> data{};
        port.read(offset, data);
        return std::to_integer<std::uint8_t>(data[0]);
    }
    void out(std::uint64_t offset, std::uint8_t value) {
        port.write(offset, std::array{std::byte{value}});
    }
    void say(std::string_view text) {
        for (const char one : text) {
            out(data_register, static_cast<std::uint8_t>(one));
        }
    }
    SerialPort& port;
};

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span{text});
}

struct Bench {
    Line line;
    SerialPort port{std::make_unique<SerialOutput>(UniqueFd{}), &line};
    Driver driver{port};
};

/// Fills the pipe's kernel buffer and then the port's queue until the port says it is busy.
std::string stall(Driver& driver) {
    std::string said;
    while ((driver.in(line_status) & 0x20U) != 0) {
        REQUIRE(said.size() < (4U << 20U));
        const char next = static_cast<char>('a' + said.size() % 26);
        driver.out(data_register, static_cast<std::uint8_t>(next));
        said += next;
    }
    return said;
}

} // namespace

TEST_SUITE("vmm.serial_port") {
    TEST_CASE("output is in the file at once, and takes the place of what was there") {
        const File file;
        {
            SerialPort port{must(SerialOutput::open(file.target())), nullptr};
            Driver{port}.say("first");
            CHECK(file.text() == "first");
        }
        SerialPort port{must(SerialOutput::open(file.target())), nullptr};
        CHECK(file.text() == "first");
        Driver{port}.say("other");
        CHECK(file.text() == "other");
    }

    TEST_CASE("a former log goes away when the guest begins, and not before") {
        const File file;
        SerialPort{must(SerialOutput::open(file.target())), nullptr}.write(
            data_register, bytes_of("x"));
        {
            SerialPort never{must(SerialOutput::open(file.target())), nullptr};
            must(never.quiesce());
        }
        CHECK(file.text() == "x");
        SerialPort port{must(SerialOutput::open(file.target())), nullptr};
        must(port.quiesce());
        CHECK(file.text() == "x");
        must(port.resume());
        CHECK(file.text().empty());
    }

    TEST_CASE("targets that do not exist are refused") {
        CHECK_FALSE(SerialOutput::open("somewhere"));
        CHECK_FALSE(SerialOutput::open("file:"));
        const auto missing = SerialOutput::open("file:/nonexistent/log");
        REQUIRE_FALSE(missing);
        CHECK(missing.error().text().find("/nonexistent/log") != std::string::npos);
        CHECK(SerialOutput::open("none"));
    }

    TEST_CASE("registers reset to idle and keep what is written") {
        Bench bench;
        auto& driver = bench.driver;
        CHECK(driver.in(line_status) == 0x60);
        CHECK(driver.in(interrupt_id) == 0x01);
        CHECK(driver.in(modem_status) == 0xb0);
        driver.out(7, 0x5a);
        CHECK(driver.in(7) == 0x5a);
        driver.out(interrupt_enable, 0xff);
        CHECK(driver.in(interrupt_enable) == 0x0f);
    }

    TEST_CASE("DLAB swaps data and interrupt enable for the divisor") {
        Bench bench;
        auto& driver = bench.driver;
        driver.out(interrupt_enable, 0x05);
        driver.out(line_control, 0x83);
        driver.out(0, 0x34);
        driver.out(1, 0x12);
        CHECK(driver.in(0) == 0x34);
        CHECK(driver.in(1) == 0x12);
        driver.out(line_control, 0x03);
        CHECK(driver.in(interrupt_enable) == 0x05);
        CHECK(driver.in(line_control) == 0x03);
    }

    TEST_CASE("enabling FIFOs shows in the identification register") {
        Bench bench;
        bench.driver.out(interrupt_id, 0x01);
        CHECK(bench.driver.in(interrupt_id) == 0xc1);
        bench.driver.out(interrupt_id, 0x00);
        CHECK(bench.driver.in(interrupt_id) == 0x01);
    }

    TEST_CASE("the transmitter interrupt is cleared by reading its name or by sending") {
        Bench bench;
        auto& driver = bench.driver;
        driver.out(modem_control, out_2);
        driver.out(interrupt_enable, 0x02);
        CHECK(bench.line.is_high);
        CHECK(driver.in(interrupt_id) == 0x02);
        CHECK_FALSE(bench.line.is_high);
        CHECK(driver.in(interrupt_id) == 0x01);
        driver.say("x"); // sent in no time: empty again
        CHECK(bench.line.is_high);
        CHECK(bench.line.rises == 2);
        driver.out(interrupt_enable, 0x00);
        CHECK_FALSE(bench.line.is_high);
        driver.out(interrupt_enable, 0x02); // newly wanted, and empty
        CHECK(bench.line.is_high);
    }

    TEST_CASE("no interrupt leaves without OUT2") {
        Bench bench;
        bench.driver.out(interrupt_enable, 0x03);
        bench.port.receive(bytes_of("a"));
        CHECK_FALSE(bench.line.is_high);
        bench.driver.out(modem_control, out_2);
        CHECK(bench.line.is_high);
    }

    TEST_CASE("received bytes raise an interrupt above the transmitter's until all are read") {
        Bench bench;
        auto& driver = bench.driver;
        driver.out(modem_control, out_2);
        driver.out(interrupt_enable, 0x03);
        CHECK(bench.port.receive(bytes_of("ab")) == 2);
        CHECK((driver.in(line_status) & 0x01) != 0);
        CHECK(driver.in(interrupt_id) == 0x04);
        CHECK(driver.in(data_register) == 'a');
        CHECK(driver.in(interrupt_id) == 0x04);
        CHECK(driver.in(data_register) == 'b');
        CHECK(driver.in(interrupt_id) == 0x02);
        CHECK((driver.in(line_status) & 0x01) == 0);
        CHECK(driver.in(data_register) == 0);
    }

    TEST_CASE("loopback shows the modem outputs as inputs and returns what is sent") {
        Bench bench;
        auto& driver = bench.driver;
        driver.out(modem_control, 0x1a);
        CHECK(driver.in(modem_status) == 0x90);
        driver.say("q");
        CHECK(driver.in(data_register) == 'q');
    }

    TEST_CASE("a reader that does not read makes the port busy and loses nothing") {
        const Pipe pipe;
        Line line;
        SerialPort port{std::make_unique<SerialOutput>(UniqueFd{::dup(pipe.writer.get())}), &line};
        Driver driver{port};
        driver.out(modem_control, out_2);
        driver.out(interrupt_enable, 0x02);
        const auto said = stall(driver);
        CHECK_FALSE(line.is_high);
        std::string heard;
        while (heard.size() < said.size()) {
            heard += pipe.read_some(65536);
        }
        CHECK(heard == said);
        while ((driver.in(interrupt_id) & 0x0fU) != 0x02U) {
            std::this_thread::yield(); // relief comes on the output's own thread
        }
        CHECK((driver.in(line_status) & 0x20U) != 0);
    }

    TEST_CASE("what was not written out moves with the port, and comes first on the other side") {
        const Pipe pipe;
        SerialPort source{
            std::make_unique<SerialOutput>(UniqueFd{::dup(pipe.writer.get())}), nullptr};
        Driver driver{source};
        const auto said = stall(driver);
        must(source.quiesce());
        const auto state = must(source.save());

        const File file;
        SerialPort destination{must(SerialOutput::open(file.target())), nullptr};
        must(destination.quiesce());
        must(destination.restore(state));
        must(destination.resume());
        Driver{destination}.say("!");
        ::fcntl(pipe.reader.get(), F_SETFL, O_NONBLOCK);
        std::string heard;
        std::array<char, 65536> part{};
        for (;;) {
            const auto got = ::read(pipe.reader.get(), part.data(), part.size());
            if (got <= 0) {
                break;
            }
            heard.append(part.data(), static_cast<std::size_t>(got));
        }
        CHECK(heard + file.text() == said + "!");
        CHECK(heard.size() < said.size());
    }

    TEST_CASE("save and restore carry registers, input and the pending interrupt") {
        Bench source;
        source.driver.out(line_control, 0x83);
        source.driver.out(0, 1);
        source.driver.out(line_control, 0x03);
        source.driver.out(interrupt_id, 0x01);
        source.driver.out(modem_control, out_2);
        source.driver.out(interrupt_enable, 0x03);
        source.port.receive(bytes_of("typed"));
        must(source.port.quiesce());
        const auto state = must(source.port.save());

        Bench destination;
        must(destination.port.quiesce());
        must(destination.port.restore(state));
        CHECK(must(destination.port.save()) == state);
        CHECK_FALSE(destination.line.is_high); // quiet until resumed
        must(destination.port.resume());
        CHECK(destination.line.is_high);
        CHECK(destination.driver.in(interrupt_id) == 0xc4);
        CHECK(destination.driver.in(data_register) == 't');
    }

    TEST_CASE("a state of another version or length is refused") {
        Bench bench;
        const auto good = must(bench.port.save());
        auto newer = good;
        newer.version = 2;
        const auto refused = bench.port.restore(newer);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code() == formats::ErrorCode::version_mismatch);
        for (std::size_t length = 0; length < good.bytes.size(); ++length) {
            auto cut = good;
            cut.bytes.resize(length);
            CHECK_FALSE(bench.port.restore(cut));
        }
        auto longer = good;
        longer.bytes.push_back(std::byte{0});
        CHECK_FALSE(bench.port.restore(longer));
        auto absurd = good;
        absurd.bytes[11] = std::byte{0xff}; // length of the input
        CHECK_FALSE(bench.port.restore(absurd));
    }

    TEST_CASE("a reader that went away swallows output and is remembered") {
        Pipe pipe;
        SerialPort port{
            std::make_unique<SerialOutput>(UniqueFd{::dup(pipe.writer.get())}), nullptr};
        pipe.reader.reset();
        Driver driver{port};
        for (int i = 0; i < 10000; ++i) {
            driver.out(data_register, 'x');
        }
        CHECK((driver.in(line_status) & 0x20U) != 0);
        CHECK_FALSE(port.output_failure());
    }
}
