/* A program of some megabytes. */

__attribute__((used)) static char content[8000001] = {1};

int main(void)
{
    return content[0];
}
