// A C++ program that is linked dynamically: it needs libstdc++ and libgcc_s beside the C library.

#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

int main(int argc, char **argv)
{
    std::string name;
    std::thread([&] { name = argc > 1 ? argv[1] : "nobody"; }).join();
    try {
        throw std::runtime_error(name);
    } catch (const std::exception &error) {
        std::cout << "greet: " << error.what() << std::endl;
    }
    return EXIT_SUCCESS;
}
